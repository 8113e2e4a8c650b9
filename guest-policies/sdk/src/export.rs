//! The macros that make a component of a policy. Natively they expand to nothing.

/// Exports a [`Balancer`](crate::Balancer) from this `cdylib`.
#[macro_export]
macro_rules! export_balancer {
    ($policy:ty) => {
        $crate::export_policy!($policy, Balancer, BalancerInstance, [balancer]);
    };
}

/// Exports a [`LearningBalancer`](crate::LearningBalancer) from this `cdylib`.
#[macro_export]
macro_rules! export_learning_balancer {
    ($policy:ty) => {
        $crate::export_policy!($policy, Balancer, BalancerInstance, [balancer, feedback]);
    };
}

/// Exports a [`Selector`](crate::Selector) from this `cdylib`.
#[macro_export]
macro_rules! export_selector {
    ($policy:ty) => {
        $crate::export_policy!($policy, Selector, SelectorInstance, [selector]);
    };
}

/// Exports a [`TrafficPolicy`](crate::TrafficPolicy) from this `cdylib`.
#[macro_export]
macro_rules! export_traffic_policy {
    ($policy:ty) => {
        $crate::export_policy!($policy, TrafficPolicy, TrafficPolicyInstance, [traffic_policy]);
    };
}

/// A component has one instance of its policy. It lives in a thread-local because that is the safe way to a static in Rust; a
/// component has one thread, so it costs no more than one.
#[doc(hidden)]
#[macro_export]
macro_rules! export_policy {
    ($policy:ty, $trait:ident, $instance:ident, [$($interface:ident),*]) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: ::std::cell::RefCell<$crate::$instance<$policy>> =
                    const { ::std::cell::RefCell::new($crate::$instance::new()) };
            }
            struct Component;
            impl $crate::glue::Home for Component {
                type Policy = $policy;
                type Instance = $crate::$instance<$policy>;
                #[inline(always)]
                fn with<R>(act: impl ::core::ops::FnOnce(&mut Self::Instance) -> R) -> R {
                    INSTANCE.with(|instance| act(&mut instance.borrow_mut()))
                }
                fn describe() -> $crate::types::Description {
                    <$policy as $crate::$trait>::describe($crate::glue::package(
                        ::core::env!("CARGO_PKG_NAME"),
                        ::core::env!("CARGO_PKG_VERSION"),
                        ::core::env!("CARGO_PKG_DESCRIPTION"),
                    ))
                }
                fn configure(
                    place: $crate::types::Place,
                    node: &$crate::types::Node,
                    settings: &[$crate::types::Setting],
                ) -> ::core::result::Result<(), ::std::string::String> {
                    <Self as $crate::glue::Home>::with(|instance| instance.configure(place, node, settings))
                }
            }
            $crate::glue::lifecycle::export!(Component with_types_in $crate::glue::lifecycle);
            $($crate::glue::$interface::export!(Component with_types_in $crate::glue::$interface);)*
        };
    };
}

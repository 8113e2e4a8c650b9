//! Bytes that are not a policy, and what is said of them.

use std::time::Instant;

use pointsman_guests::BUILT_IN;

use super::*;
use crate::policy::inspect::inspect;
use crate::policy::registry::{Registry, RegistryOptions, try_out};

fn refusal(bytes: &[u8]) -> String {
    try_out(&SANDBOX, "p", bytes, Grants::default()).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn every_built_in_policy_passes_its_self_test() {
    for component in BUILT_IN {
        let (policy, cost) =
            try_out(&SANDBOX, component.name, component.bytes, Grants::default()).unwrap_or_else(|r| panic!("{}: {r}", component.name));
        assert_eq!(policy.description().name, component.name);
        assert!(cost.decisions >= 10_000, "{}", component.name);
        assert!(cost.fuel_max < SANDBOX.limits().hot_fuel / 2, "{} is close to the limit: {cost:?}", component.name);
        println!("{:<18} {cost:?}", component.name);
    }
}

#[test]
fn a_cut_file_is_not_complete() {
    let whole = component("round-robin");
    for part in [whole.len() - 1, whole.len() / 2, 100, 9] {
        let why = refusal(&whole[..part]);
        assert!(why.starts_with("not a complete WebAssembly component") || why.starts_with("not a policy"), "{part} bytes: {why}");
    }
    assert!(refusal(&[]).starts_with("not a complete WebAssembly component"));
}

#[test]
fn noise_and_text_are_not_components() {
    let noise: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(refusal(&noise).starts_with("not a complete WebAssembly component: "), "{}", refusal(&noise));
    assert!(refusal(b"apiVersion: v1\n").starts_with("not a complete WebAssembly component: "));
}

#[test]
fn one_flipped_byte_is_refused_or_harmless() {
    let whole = component("random");
    for at in (8..whole.len()).step_by(whole.len() / 50) {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x41;
        // Some bytes are data or names: then it may even pass. What it must not do is panic, or hang.
        let _ = try_out(&SANDBOX, "p", &bytes, Grants::default());
    }
}

#[test]
fn a_hundred_megabytes_are_not_even_read() {
    let bytes = vec![0; 100 << 20];
    let began = Instant::now();
    assert_eq!(refusal(&bytes), "component size in bytes: 104857600, and the limit is 2097152");
    assert!(began.elapsed().as_secs() < 5);
}

/// A component with this core module in it: preamble, then each section.
fn with_module(sections: &[&[u8]]) -> Vec<u8> {
    let module: Vec<u8> = [b"\0asm\x01\0\0\0".as_slice()].iter().chain(sections).copied().flatten().copied().collect();
    let length = u8::try_from(module.len()).unwrap();
    [b"\0asm\x0d\0\x01\0\x01".as_slice(), &[length], &module].concat()
}

/// What no supported language needs is off (WebAssembly 3.0 names the features; the bytes are those of its binary format).
#[test]
fn features_that_are_off_are_refused_by_name() {
    let function_type: &[u8] = &[1, 4, 1, 0x60, 0, 0];
    let function: &[u8] = &[3, 2, 1, 0];
    let swizzle: &[u8] =
        &[[10, 44, 1, 42, 0].as_slice(), &[0xfd, 12], &[0; 16], &[0xfd, 12], &[0; 16], &[0xfd, 0x80, 2, 0x1a, 0x0b]].concat();
    let cases: [(&str, &[&[u8]]); 7] = [
        ("threads", &[&[5, 4, 1, 3, 1, 1]]),
        ("memory64", &[&[5, 3, 1, 4, 1]]),
        ("multiple memories", &[&[5, 5, 2, 0, 0, 0, 0]]),
        ("tail call", &[function_type, function, &[10, 6, 1, 4, 0, 0x12, 0, 0x0b]]),
        ("gc", &[&[1, 3, 1, 0x5f, 0]]),
        ("exceptions", &[function_type, &[13, 3, 1, 0, 0]]),
        ("relaxed SIMD", &[function_type, function, swizzle]),
    ];
    for (feature, sections) in cases {
        let why = SANDBOX.compile(&with_module(sections), SANDBOX.limits()).map(|_| ()).unwrap_err().to_string();
        assert!(why.contains(feature), "{feature}: {why}");
    }
    let plain = with_module(&[function_type, function, &[10, 4, 1, 2, 0, 0x0b]]);
    assert!(SANDBOX.compile(&plain, SANDBOX.limits()).is_ok(), "a module that uses none of them");
}

#[test]
fn a_core_module_is_told_from_a_component() {
    assert!(refusal(b"\0asm\x01\0\0\0").contains("wasm-tools component new"));
}

#[test]
fn an_empty_component_is_of_the_wrong_world() {
    let why = refusal(b"\0asm\x0d\0\x01\0");
    assert_eq!(
        why,
        "not a policy for this host: it exports nothing; a policy exports pointsman:policy/balancer@0.1.0, or selector, or \
        traffic-policy"
    );
}

#[test]
fn another_version_of_the_contract_is_named() {
    // Both versions have five characters, so the component stays well-formed.
    let mut bytes = component("random").to_vec();
    let (old, new) = (b"@0.1.0", b"@0.9.0");
    let places: Vec<usize> = (0..bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    places.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new));
    let why = refusal(&bytes);
    assert!(why.contains("built for pointsman:policy@0.9.0, and this host speaks 0.1.0"), "{why}");
}

/// A component that does nothing else than another, but is larger: a custom section more.
fn padded(name: &str, bytes: u32) -> Vec<u8> {
    let mut length = Vec::new();
    let mut rest = bytes + 1;
    while rest >= 0x80 {
        length.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    length.push(rest as u8);
    // Of no name.
    [component(name), &[0], &length, &vec![0; bytes as usize + 1]].concat()
}

#[test]
fn a_large_component_is_served_by_grant_and_the_refusal_says_so() {
    let bytes = padded("maglev", 3 << 20);
    let why = refusal(&bytes);
    assert!(why.starts_with("component size in bytes: ") && why.contains("--large-policy NAME"), "{why}");
    let large = Grants { runtime: Runtime::Large, ..Grants::default() };
    let (policy, _) = try_out(&SANDBOX, "p", &bytes, large).unwrap();
    assert_eq!(policy.limits().hot_fuel, SANDBOX.limits().large().hot_fuel);
    let too_large = try_out(&SANDBOX, "p", &padded("maglev", 33 << 20), large).map(|_| ()).unwrap_err().to_string();
    assert!(too_large.contains("33554432") && !too_large.contains("--large-policy"), "{too_large}");
}

#[test]
fn a_grant_is_to_a_name() {
    let bytes = padded("maglev", 3 << 20);
    let options = RegistryOptions { large: ["big".to_owned()].into(), ..RegistryOptions::default() };
    let registry = Registry::new(Arc::clone(&SANDBOX), options);
    assert!(registry.swap("big", &bytes).unwrap().changed);
    assert!(matches!(registry.swap("small", &bytes), Err(Refusal::OverLimit { .. })));
}

#[test]
fn large_limits_are_never_below_the_normal_ones() {
    let generous = Limits { memory_bytes: 1 << 30, hot_fuel: 1 << 40, ..Limits::default() };
    assert_eq!((generous.large().memory_bytes, generous.large().hot_fuel), (1 << 30, 1 << 40));
    assert_eq!(Limits::default().large().memory_bytes, 256 << 20);
    assert_eq!(Limits::default().large().large(), Limits::default().large());
}

#[test]
fn limits_are_measured_before_anything_is_compiled() {
    let limits = SANDBOX.limits();
    let inspection = inspect(component("maglev"), limits).unwrap();
    let over = |limits: Limits| inspection.shape(&limits, false).unwrap_err().to_string();
    assert!(over(Limits { modules: 1, ..limits.clone() }).starts_with("core modules: "));
    assert!(over(Limits { functions: 1, ..limits.clone() }).starts_with("functions: "));
    assert!(over(Limits { body_bytes: 10, ..limits.clone() }).starts_with("largest function body in bytes: "));
    assert!(over(Limits { memory_bytes: 65_536, ..limits.clone() }).starts_with("initial memory in bytes: "));
    assert!(inspection.shape(limits, false).is_ok());
}

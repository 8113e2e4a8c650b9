//! Dual-stack Services, row 1.9: `TestCreateInitIPFields` and its siblings in pkg/registry/core/service/storage are the model.

use super::support::*;
use crate::control::Settings;
use crate::objects::model::{ClusterIp, IpFamily, IpFamilyPolicy, Kind, Service, ServiceType};
use IpFamily::{V4, V6};
use IpFamilyPolicy::{PreferDualStack, RequireDualStack, SingleStack};

fn ranges(nets: &[&str]) -> Settings {
    Settings { service_ranges: nets.iter().map(|net| net.parse().unwrap()).collect(), ..settings() }
}

const NET4: &str = "10.96.0.0/12";
const NET6: &str = "fd00:10:96::/112";

fn stacked(policy: Option<IpFamilyPolicy>, families: &[IpFamily]) -> Service {
    Service { ip_family_policy: policy, ip_families: families.to_vec(), ..service("web") }
}

fn with_ips(service: Service, ips: &[&str]) -> Service {
    Service { cluster_ip: ClusterIp::Fixed(ips.iter().map(|text| ip(text)).collect()), ..service }
}

fn headless(service: Service) -> Service {
    Service { cluster_ip: ClusterIp::Headless, ..service }
}

fn by_hand(service: Service) -> Service {
    Service { selector: None, ..service }
}

/// The families and their policy, or what was said instead.
fn outcome(settings: Settings, service: Service) -> Result<(Vec<IpFamily>, IpFamilyPolicy), Vec<String>> {
    let mut bench = Bench::of(settings);
    let headless = service.cluster_ip == ClusterIp::Headless;
    let update = bench.change(vec![service.put()]);
    let Some(allocation) = bench.controller.allocation("default", "web") else {
        return Err(messages(&update.diagnostics));
    };
    let of_ips: Vec<_> = allocation.cluster_ips.iter().map(|ip| if ip.is_ipv4() { V4 } else { V6 }).collect();
    if headless {
        assert_eq!((of_ips, bench.table().frontends.len()), (vec![], 0));
    } else {
        assert_eq!(of_ips, allocation.families);
        assert_eq!(bench.answers("web").len(), allocation.families.len());
    }
    Ok((allocation.families.clone(), allocation.family_policy.unwrap()))
}

#[test]
fn families_follow_what_is_said_and_what_the_host_has() {
    let (single, dual, dual6) = (&[NET4][..], &[NET4, NET6][..], &[NET6, NET4][..]);
    let cases = [
        // Nothing said: one family, the cluster's primary.
        (single, stacked(None, &[]), (vec![V4], SingleStack)),
        (dual, stacked(None, &[]), (vec![V4], SingleStack)),
        (dual6, stacked(None, &[]), (vec![V6], SingleStack)),
        (dual, stacked(None, &[V6]), (vec![V6], SingleStack)),
        (dual, stacked(Some(SingleStack), &[V6]), (vec![V6], SingleStack)),
        // PreferDualStack takes what there is.
        (single, stacked(Some(PreferDualStack), &[]), (vec![V4], PreferDualStack)),
        (dual, stacked(Some(PreferDualStack), &[]), (vec![V4, V6], PreferDualStack)),
        (dual6, stacked(Some(PreferDualStack), &[]), (vec![V6, V4], PreferDualStack)),
        (dual, stacked(Some(PreferDualStack), &[V6]), (vec![V6, V4], PreferDualStack)),
        (dual, stacked(Some(PreferDualStack), &[V6, V4]), (vec![V6, V4], PreferDualStack)),
        (dual, stacked(Some(RequireDualStack), &[]), (vec![V4, V6], RequireDualStack)),
        (dual, stacked(Some(RequireDualStack), &[V6]), (vec![V6, V4], RequireDualStack)),
        // The families of the cluster IPs count; the other is drawn.
        (dual, with_ips(stacked(None, &[]), &["fd00:10:96::5"]), (vec![V6], SingleStack)),
        (dual, with_ips(stacked(Some(PreferDualStack), &[]), &["fd00:10:96::5"]), (vec![V6, V4], PreferDualStack)),
        (dual, with_ips(stacked(Some(RequireDualStack), &[]), &["10.96.0.5", "fd00:10:96::5"]), (vec![V4, V6], RequireDualStack)),
        // Headless with a selector: as any other.
        (single, headless(stacked(None, &[])), (vec![V4], SingleStack)),
        (dual, headless(stacked(Some(PreferDualStack), &[])), (vec![V4, V6], PreferDualStack)),
        // Headless without: both, wherever it is; and families that the cluster lacks.
        (single, by_hand(headless(stacked(None, &[]))), (vec![V4, V6], RequireDualStack)),
        (&[NET6], by_hand(headless(stacked(None, &[]))), (vec![V6, V4], RequireDualStack)),
        (single, by_hand(headless(stacked(Some(SingleStack), &[V6]))), (vec![V6], SingleStack)),
        (single, by_hand(headless(stacked(Some(RequireDualStack), &[V6, V4]))), (vec![V6, V4], RequireDualStack)),
        (single, by_hand(headless(stacked(Some(PreferDualStack), &[V4]))), (vec![V4, V6], PreferDualStack)),
    ];
    for (at, (nets, service, expected)) in cases.into_iter().enumerate() {
        assert_eq!(outcome(ranges(nets), service), Ok(expected), "case {at}");
    }
}

#[test]
fn what_the_host_cannot_give_is_refused() {
    let not_dual = "Service default/web spec.ipFamilyPolicy: this cluster is not configured for dual-stack services";
    let no_v6 = "Service default/web spec.ipFamilies[0]: IPv6 is not configured on this cluster";
    let cases = [
        (stacked(Some(RequireDualStack), &[]), vec![not_dual]),
        (headless(stacked(Some(RequireDualStack), &[])), vec![not_dual]),
        (stacked(None, &[V6]), vec![no_v6]),
        (headless(stacked(Some(PreferDualStack), &[V6])), vec![no_v6]),
        (
            stacked(Some(RequireDualStack), &[V4, V6]),
            vec![not_dual, "Service default/web spec.ipFamilies[1]: IPv6 is not configured on this cluster"],
        ),
    ];
    for (at, (service, expected)) in cases.into_iter().enumerate() {
        let expected = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(outcome(ranges(&[NET4]), service), Err(expected), "case {at}");
    }
    let mut bench = Bench::of(ranges(&[NET4]));
    let update = bench.change(vec![stacked(Some(RequireDualStack), &[]).put()]);
    assert!(update.diagnostics[0].remedy.as_ref().unwrap().contains("--service-cidr"));
}

#[test]
fn each_family_is_drawn_from_its_own_range() {
    let bench = Bench::with_settings(dual_stack(), vec![stacked(Some(PreferDualStack), &[]).put()]);
    let ips = bench.allocation("web").cluster_ips;
    // The IPv4 address is the one that a Service of this name has on a single-stack host; the IPv6 one was worked out apart from this
    // code: xxh64("cluster-ip/default/web") modulo the 65,278 addresses of the dynamic band, which begins at ::101.
    assert_eq!(ips, [ip("10.99.106.79"), ip(WEB_V6)]);
    assert!(dual_stack().service_ranges[1].contains(&ips[1]));
}

const WEB_V6: &str = "fd00:10:96::9181";

#[test]
fn the_second_family_comes_and_goes_and_the_first_stays() {
    let mut bench = Bench::of(dual_stack());
    bench.change(vec![stacked(None, &[]).put()]);
    let first = bench.allocation("web").cluster_ips;
    bench.change(vec![stacked(Some(RequireDualStack), &[]).put()]);
    let both = bench.allocation("web");
    assert_eq!((both.cluster_ips.len(), both.cluster_ips[0]), (2, first[0]));
    // Applied again without a policy, it keeps the one that it had.
    bench.change(vec![Service { publish_not_ready: true, ..stacked(None, &[]) }.put()]);
    assert_eq!(bench.allocation("web"), both);
    bench.change(vec![stacked(Some(SingleStack), &[]).put()]);
    assert_eq!(bench.allocation("web").cluster_ips, first);
    assert_eq!(bench.answers("web").len(), 1);
    // What was released is anybody's.
    let second = both.cluster_ips[1].to_string();
    bench.change(vec![fixed("other", &second).put()]);
    assert_eq!(bench.allocation("other").cluster_ips, [ip(&second)]);
}

#[test]
fn a_primary_family_is_kept_when_nothing_is_said() {
    let mut bench = Bench::of(dual_stack());
    bench.change(vec![stacked(None, &[V6]).put()]);
    let before = bench.allocation("web");
    bench.change(vec![Service { publish_not_ready: true, ..stacked(None, &[]) }.put()]);
    assert_eq!(bench.allocation("web"), before);
    bench.change(vec![stacked(Some(PreferDualStack), &[]).put()]);
    assert_eq!(bench.allocation("web").families, [V6, V4]);
    assert_eq!(bench.allocation("web").cluster_ips[0], before.cluster_ips[0]);
}

#[test]
fn a_failed_allocation_takes_nothing() {
    // A range of one IPv6 address, which "web" has: "db" cannot be in both families, and must keep no IPv4 address either.
    let mut bench = Bench::of(ranges(&[NET4, "fd00::7/128"]));
    bench.change(vec![stacked(None, &[V6]).put()]);
    assert_eq!(bench.allocation("web").cluster_ips, [ip("fd00::7")]);
    let both = Service { ip_family_policy: Some(RequireDualStack), ..service("db") };
    let update = bench.change(vec![both.put()]);
    let told = "Service default/db spec.clusterIPs[1]: no cluster IP is free in the service range (fd00::7/128)";
    assert_eq!(messages(&update.diagnostics).iter().filter(|text| *text == told).count(), 1);
    assert_eq!(bench.controller.allocation("default", "db"), None);
    let drawn = Bench::with(vec![service("db").put()]).allocation("db").cluster_ips;
    bench.change(vec![fixed("heir", &drawn[0].to_string()).put()]);
    assert_eq!(bench.allocation("heir").cluster_ips, drawn);
    // And it is tried again when the address is free.
    bench.change(vec![delete(Kind::Service, "web")]);
    assert_eq!(bench.allocation("db").cluster_ips[1], ip("fd00::7"));
}

#[test]
fn an_alias_has_no_family() {
    let alias = Service { service_type: ServiceType::ExternalName("example.org".into()), selector: None, ..service("web") };
    let mut bench = Bench::of(dual_stack());
    bench.change(vec![stacked(Some(RequireDualStack), &[]).put()]);
    let had = bench.allocation("web").cluster_ips;
    bench.change(vec![alias.put()]);
    let expected = crate::control::Allocation { node_ports: vec![None], ..Default::default() };
    assert_eq!((bench.allocation("web"), bench.table().frontends.len()), (expected, 0));
    bench.change(vec![fixed("heir", &had[1].to_string()).put()]);
    assert_eq!(bench.allocation("heir").cluster_ips, had[1..]);
}

#[test]
fn another_proxys_service_is_given_its_addresses_and_not_served() {
    let mut bench = Bench::with_settings(dual_stack(), vec![node_port_service("web").put()]);
    let before = bench.allocation("web");
    bench.change(vec![Service { other_proxy: true, ..node_port_service("web") }.put(), pod("a", "web", "10.244.0.1").put()]);
    assert_eq!(bench.allocation("web"), before);
    assert_eq!((bench.table().frontends.len(), bench.table().ports.iter().flatten().count()), (0, 0));
    bench.change(vec![node_port_service("web").put()]);
    assert_eq!(bench.answers("web").len(), 2);
}

#[test]
fn an_allocation_is_shown_in_the_services_fields() {
    let mut bench = Bench::of(dual_stack());
    let service = Service { ip_family_policy: Some(PreferDualStack), ..node_port_service("web") };
    bench.change(vec![service.clone().put()]);
    let allocation = bench.allocation("web");
    let shown = allocation.written_into(&service);
    assert_eq!(shown.cluster_ip, ClusterIp::Fixed(allocation.cluster_ips.clone()));
    assert_eq!((shown.ip_families.as_slice(), shown.ip_family_policy), (&[V4, V6][..], Some(PreferDualStack)));
    assert_eq!(shown.ports[0].node_port, Some(bench.node_ports("web")[0]));
    // Asked for by number, it is what it is.
    bench.change(vec![shown.clone().put()]);
    assert_eq!(bench.allocation("web"), allocation);
    assert_eq!(bench.allocation("web").written_into(&shown), shown);
}

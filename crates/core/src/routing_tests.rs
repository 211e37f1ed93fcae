use proptest::prelude::*;

use super::*;

fn service(routes: &[(&str, &str, bool)], mounts: &[&str]) -> ServiceSpec {
    let route = |(methods, path, idempotent): &(&str, &str, bool)| RouteSpec {
        methods: methods.split(' ').map(str::to_owned).collect(),
        path: (*path).to_owned(),
        idempotent: *idempotent,
    };
    ServiceSpec {
        routes: routes.iter().map(route).collect(),
        mounts: mounts.iter().map(|mount| (*mount).to_owned()).collect(),
        methods: Vec::new(),
        description: String::new(),
    }
}

fn table(services: &[(&'static str, ServiceSpec)]) -> RouteTable<&'static str> {
    RouteTable::new(services.iter().map(|(name, spec)| (Arc::new(*name), spec)))
}

/// The service, and whether the request may run twice.
fn find(table: &RouteTable<&'static str>, method: &str, path: &str) -> Option<(&'static str, bool)> {
    table.find(method, path).map(|found| (*found.service, found.is_idempotent))
}

fn name(table: &RouteTable<&'static str>, path: &str) -> &'static str {
    find(table, "POST", path).map_or("nobody", |(name, _)| name)
}

#[test]
fn routes_come_before_mounts_and_literals_before_parameters() {
    let table = table(&[
        ("literal", service(&[("POST", "/a/b", false), ("POST", "/a/b/c", false)], &[])),
        ("mount", service(&[], &["/", "/a", "/a/b/c/d", "/only"])),
        ("parameter", service(&[("POST", "/a/{x}", false), ("POST", "/a/{x}/e", false)], &["/a/b/{y}"])),
    ]);
    for (path, wanted) in [
        ("/a/b", "literal"),
        ("/a/x", "parameter"),
        ("/a/b/c", "literal"),
        ("/a/b/e", "parameter"), // back from the literal, where nothing follows that fits
        ("/a/b/f", "parameter"), // its mount is the longer one
        ("/a/b/c/f", "parameter"),
        ("/a/b/c/d", "mount"),
        ("/a/b/c/d/f", "mount"),
        ("/a/x/f", "mount"),
        ("/only", "mount"),
        ("/else", "mount"),
        ("/", "mount"),
    ] {
        assert_eq!(name(&table, path), wanted, "{path}");
    }
}

#[test]
fn paths_are_compared_by_whole_segments() {
    let table = table(&[
        ("plates", service(&[("POST", "/read", false), ("POST", "/x/{id}", false)], &["/ui", "/docs/"])),
        ("slash", service(&[("POST", "/read/", false)], &[])),
    ]);
    for (path, wanted) in [
        ("/read", "plates"),
        ("/read/", "slash"),
        ("/read/x", "nobody"),
        ("/reader", "nobody"),
        ("//read", "nobody"),
        ("/x/1", "plates"),
        ("/x/", "nobody"), // a parameter is never empty
        ("/x/1/", "nobody"),
        ("/x/1/2", "nobody"),
        ("/ui", "plates"),
        ("/ui/", "plates"),
        ("/ui/a/b", "plates"),
        ("/ui/../read", "plates"),
        ("/uix", "nobody"),
        ("/UI", "nobody"),
        ("/docs", "plates"),
        ("/docs/x", "plates"),
        ("/", "nobody"),
        ("", "nobody"),
        ("*", "nobody"),
        ("ui", "nobody"),
    ] {
        assert_eq!(name(&table, path), wanted, "{path}");
    }
    let slash = self::table(&[("root", service(&[("POST", "/", false)], &[]))]);
    assert_eq!((name(&slash, "/"), name(&slash, "//"), name(&slash, "/x")), ("root", "nobody", "nobody"));
    assert_eq!(name(&RouteTable::default(), "/"), "nobody");
}

#[test]
fn segments_are_decoded_once() {
    let table = table(&[("plates", service(&[("POST", "/größe", false), ("POST", "/x/{id}/y", false)], &["/a b"]))]);
    for (path, wanted) in [
        ("/gr%C3%B6%c3%9fe", "plates"),
        ("/größe", "plates"),
        ("/gr%C3%B6%C3%9", "nobody"),
        ("/a%20b/%61", "plates"),
        ("/a%2520b", "nobody"),
        ("/x/%2F/y", "plates"), // one segment, whatever the application makes of it
        ("/x%2F1/y", "nobody"),
        ("/x/%ff/%79", "plates"),
        ("/x/%zz/y", "plates"),
        ("/x/%/y", "plates"),
    ] {
        assert_eq!(name(&table, path), wanted, "{path}");
    }
}

#[test]
fn a_path_with_another_method_is_still_that_services() {
    let table = table(&[
        ("first", service(&[("GET PUT", "/x", false), ("GET", "/y/z", false)], &[])),
        ("second", service(&[("POST", "/x", true), ("POST", "/y/{z}", true)], &["/y"])),
    ]);
    assert_eq!(find(&table, "PUT", "/x"), Some(("first", false)));
    assert_eq!(find(&table, "POST", "/x"), Some(("second", true)));
    assert_eq!(find(&table, "DELETE", "/x"), Some(("first", false)));
    assert_eq!(find(&table, "POST", "/y/z"), Some(("second", true)));
    assert_eq!(find(&table, "DELETE", "/y/z"), Some(("first", false)));
    assert_eq!(find(&table, "get", "/x"), Some(("first", false)));
}

#[test]
fn what_two_services_claim_is_the_firsts() {
    let spec = service(&[("POST", "/x/{a}", true)], &["/ui"]);
    let other = service(&[("POST", "/x/{b}", false)], &["/ui/"]);
    for _ in 0..8 {
        let table = table(&[("first", spec.clone()), ("second", other.clone())]);
        assert_eq!(find(&table, "POST", "/x/1"), Some(("first", true)));
        assert_eq!(find(&table, "POST", "/ui/1"), Some(("first", false)));
    }
}

#[test]
fn a_request_may_run_twice_if_the_method_or_every_route_of_it_says_so() {
    let routes = [
        ("POST", "/once", false),
        ("GET POST", "/twice", true),
        ("GET", "/read", false),
        ("POST", "/{any}", true),
        ("POST", "/v/{any}", false),
        ("POST", "/v/twice", true),
    ];
    let table =
        table(&[("plates", service(&routes, &["/ui"])), ("stranger", service(&[("POST", "/twice", false)], &[]))]);
    for (method, path, wanted) in [
        ("POST", "/twice", true), // the stranger has no say in it
        ("POST", "/once", false),
        ("POST", "/else", true),
        ("POST", "/v/twice", false), // the application may take the other route
        ("GET", "/once", true),
        ("HEAD", "/once", true),
        ("GET", "/ui/x", true),
        ("HEAD", "/ui", true),
        ("POST", "/ui/x", false),
        ("OPTIONS", "/ui", false),
        ("PATCH", "/twice", false),
        ("GET", "/read", true),
    ] {
        assert_eq!(find(&table, method, path), Some(("plates", wanted)), "{method} {path}");
    }
}

/// Segments of `path` against those of a claim, one by one; how the table would be read without being one.
fn fits(claim: &str, path: &str, is_mount: bool) -> bool {
    let claimed: Vec<_> = claim.split('/').skip(1).collect();
    let given: Vec<_> = path.split('/').skip(1).collect();
    let is_long_enough = if is_mount { given.len() >= claimed.len() } else { given.len() == claimed.len() };
    let same = |(claimed, given): (&&str, &&str)| if *claimed == "{p}" { !given.is_empty() } else { claimed == given };
    is_long_enough && claimed.iter().zip(&given).all(same)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_finds_what_a_list_would(
        routes in prop::collection::vec("(/(a|b|\\{p\\})){1,4}/?", 0..6),
        mounts in prop::collection::vec("(/(a|b|\\{p\\})){1,3}", 0..4),
        path in "(/(a|b|c)){1,4}/?",
    ) {
        let routes: Vec<_> = routes.iter().map(|path| ("POST", path.as_str(), true)).collect();
        let mounts: Vec<_> = mounts.iter().map(String::as_str).collect();
        let table = table(&[("mounts", service(&[], &mounts)), ("routes", service(&routes, &[]))]);
        let is_route = routes.iter().any(|(_, claim, _)| fits(claim, &path, false));
        let is_mount = mounts.iter().any(|claim| fits(claim, &path, true));
        let wanted = match (is_route, is_mount) {
            (true, _) => Some(("routes", true)),
            (false, true) => Some(("mounts", false)),
            (false, false) => None,
        };
        prop_assert_eq!(find(&table, "POST", &path), wanted);
    }
}

//! The table by which the HTTP door finds the service that a request is for.
//!
//! It answers no more than that and whether the request may run twice: which method of the service it is, or that there
//! is none (404, or 405 with `Allow`), is for the application in the worker to say. A table is built once per change.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{RouteSpec, ServiceSpec};

/// Services by the paths that they claim.
#[derive(Debug)]
pub struct RouteTable<T> {
    root: Node<T>,
}

/// What a request is for.
#[derive(Debug)]
pub struct Match<T> {
    /// The service.
    pub service: Arc<T>,
    /// May the request run twice?
    pub is_idempotent: bool,
}

/// What is claimed at the end of some path, and the segments that may follow.
#[derive(Debug)]
struct Node<T> {
    literals: HashMap<Box<[u8]>, Node<T>>,
    parameter: Option<Box<Node<T>>>,
    /// In the order in which they were claimed: of two that take the same method the first one counts.
    routes: Vec<Route<T>>,
    /// Whose the whole subtree is.
    mount: Option<Arc<T>>,
}

#[derive(Debug)]
struct Route<T> {
    service: Arc<T>,
    methods: Vec<String>,
    is_idempotent: bool,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literals: HashMap::new(), parameter: None, routes: Vec::new(), mount: None }
    }
}

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

impl<T> RouteTable<T> {
    /// The table of these services. What two of them claim is that of the first: let them come by name.
    #[must_use]
    pub fn new<'a>(services: impl Iterator<Item = (Arc<T>, &'a ServiceSpec)>) -> Self {
        let mut table = Self::default();
        for (service, spec) in services {
            for RouteSpec { methods, path, idempotent } in &spec.routes {
                let (methods, is_idempotent) = (methods.clone(), *idempotent);
                table.root.at(path).routes.push(Route { service: Arc::clone(&service), methods, is_idempotent });
            }
            for prefix in &spec.mounts {
                let mount = &mut table.root.at(prefix.trim_end_matches('/')).mount;
                mount.get_or_insert_with(|| Arc::clone(&service));
            }
        }
        table
    }

    /// The service that gets a request; `path` is as the client sent it, without the query.
    ///
    /// A route comes before any mount, one that takes the method before one that does not, and a literal segment before a
    /// parameter; of mounts the longest one counts. Segments are compared percent-decoded, `..` is a segment like others.
    #[must_use]
    pub fn find(&self, method: &str, path: &str) -> Option<Match<T>> {
        let mut search = Search { method, whole: None, other_method: None, mount: None };
        search.walk(&self.root, Some(path.strip_prefix('/')?), 0);
        let is_safe = matches!(method, "GET" | "HEAD");
        if let Some((service, is_idempotent)) = search.whole {
            return Some(Match { service: Arc::clone(service), is_idempotent: is_safe || is_idempotent });
        }
        let service = search.other_method.or(search.mount.map(|(_, service)| service))?;
        Some(Match { service: Arc::clone(service), is_idempotent: is_safe })
    }
}

impl<T> Node<T> {
    /// The node of a claimed path, made where it is missing.
    fn at(&mut self, path: &str) -> &mut Self {
        let segments = path.strip_prefix('/').map(|path| path.split('/'));
        segments.into_iter().flatten().fold(self, |node, segment| {
            if segment.starts_with('{') && segment.ends_with('}') {
                node.parameter.get_or_insert_default()
            } else {
                node.literals.entry(segment.as_bytes().into()).or_default()
            }
        })
    }
}

/// What was found so far. The best comes first, so that nothing found is replaced but a shorter mount.
struct Search<'a, T> {
    method: &'a str,
    /// A route that takes the method, and whether all such routes of its service may run twice: which of several paths
    /// that fit the application takes depends on their order there.
    whole: Option<(&'a Arc<T>, bool)>,
    other_method: Option<&'a Arc<T>>,
    /// With the number of its segments.
    mount: Option<(usize, &'a Arc<T>)>,
}

impl<'a, T> Search<'a, T> {
    /// Look at what `node` and what follows it claim of the `rest` of a path. No node is visited twice, as each is reached
    /// by one path.
    fn walk(&mut self, node: &'a Node<T>, rest: Option<&str>, depth: usize) {
        if let Some(service) = &node.mount
            && self.mount.is_none_or(|(longest, _)| longest < depth)
        {
            self.mount = Some((depth, service));
        }
        let Some(rest) = rest else { return node.routes.iter().for_each(|route| self.take(route)) };
        let (segment, rest) = rest.split_once('/').map_or((rest, None), |(segment, rest)| (segment, Some(rest)));
        let segment = decode(segment);
        if let Some(next) = node.literals.get(&*segment) {
            self.walk(next, rest, depth + 1);
        }
        if let Some(next) = node.parameter.as_deref().filter(|_| !segment.is_empty()) {
            self.walk(next, rest, depth + 1);
        }
    }

    fn take(&mut self, route: &'a Route<T>) {
        if !route.methods.iter().any(|method| method == self.method) {
            self.other_method.get_or_insert(&route.service);
            return;
        }
        match &mut self.whole {
            None => self.whole = Some((&route.service, route.is_idempotent)),
            Some((service, is_idempotent)) if Arc::ptr_eq(service, &route.service) => {
                *is_idempotent &= route.is_idempotent;
            }
            Some(_) => {}
        }
    }
}

/// A segment, percent-decoded once; what is no escape stays as it is. Bytes, as they need be no UTF-8.
fn decode(segment: &str) -> Cow<'_, [u8]> {
    let bytes = segment.as_bytes();
    if !bytes.contains(&b'%') {
        return Cow::Borrowed(bytes);
    }
    let digit = |at: usize| bytes.get(at).and_then(|byte| (*byte as char).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, _, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
#[path = "routing_tests.rs"]
mod tests;

//! Requests to services: whose they are, and what is held and counted for one.

use std::sync::Arc;

use samovar_core::error::{Code, Error, echo};
use samovar_core::version::Version;

use super::{DataPlane, InFlight};
use crate::door::invalid;

/// Most names of one kind in a message.
const MAX_NAMES: usize = 4;

/// A request to a service, from its head to the last byte of its answer; counted in the metrics when dropped.
#[derive(Debug)]
pub struct Visit {
    plane: Arc<DataPlane>,
    version: Arc<Version>,
    door: &'static str,
    /// `cancelled` until something else is known: its client went away.
    outcome: Result<(), Code>,
    permit: Option<InFlight<Arc<DataPlane>>>,
}

impl Visit {
    /// Count as in flight from now on. Errors: `shutting_down`, `overloaded`.
    pub fn enter(&mut self) -> Result<(), Error> {
        self.permit = Some(InFlight::take(Arc::clone(&self.plane), &self.version)?);
        Ok(())
    }

    /// What became of it.
    pub fn ends(&mut self, outcome: Result<(), Code>) {
        self.outcome = outcome;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.plane.count(self.door, &self.version.name, &self.version.version, self.outcome);
    }
}

impl DataPlane {
    /// The service that a request is for, and whether the request may run twice.
    #[must_use]
    pub fn service(&self, method: &str, path: &str) -> Option<(Arc<Version>, bool)> {
        self.registry.service(method, path)
    }

    /// Every service.
    #[must_use]
    pub fn services(&self) -> Vec<Arc<Version>> {
        self.registry.services()
    }

    /// `invalid_request` where `model` is the name of a service.
    pub fn check_takes_tensors(&self, model: &str) -> Result<(), Error> {
        check_takes_tensors(&*self.registry.find(model, None)?, model)
    }

    /// Begin to count a request to `version` that came through `door`.
    #[must_use]
    pub fn visit(self: &Arc<Self>, door: &'static str, version: Arc<Version>) -> Visit {
        Visit { plane: Arc::clone(self), version, door, outcome: Err(Code::Cancelled), permit: None }
    }
}

/// `invalid_request` where `model` is the name of a service: it takes HTTP requests, and only some of its methods take
/// tensors, under names of their own.
pub(super) fn check_takes_tensors(version: &Version, model: &str) -> Result<(), Error> {
    match &version.spec.service {
        Some(_) if *model == *version.name => Err(takes_no_tensors(version)),
        _ => Ok(()),
    }
}

#[cold]
fn takes_no_tensors(version: &Version) -> Error {
    let service = version.spec.service.as_ref();
    let (routes, methods) = service.map_or((&[][..], &[][..]), |service| (&service.routes, &service.methods));
    let name = echo(&version.name);
    let routes = listed(routes.iter().filter_map(|route| Some(format!("{} {}", route.methods.first()?, route.path))));
    let methods = listed(methods.iter().map(|method| format!("{name}.{}", method.name)));
    let mut message = format!("\"{name}\" is a service, which takes no tensors; ");
    message += &routes.unwrap_or_else(|| format!("GET /{name}/docs says what it takes"));
    if let Some(methods) = methods {
        message += &format!(", or infer with a method as the model: {methods}");
    }
    invalid(message)
}

/// The first of `names`; `None` where there are none.
fn listed(names: impl Iterator<Item = String>) -> Option<String> {
    let mut names: Vec<_> = names.take(MAX_NAMES + 1).collect();
    if names.len() > MAX_NAMES {
        names[MAX_NAMES] = "...".to_owned();
    }
    (!names.is_empty()).then(|| names.join(", "))
}

//! Which version of a model a request gets, and which requests are a service's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Deployed;
use crate::error::{Code, Error, echo};
use crate::life::State;
use crate::version::Version;

/// One model to requests.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    /// By name.
    pub(super) versions: BTreeMap<String, Arc<Deployed>>,
    /// What gets the requests that name no version; chosen anew when one changes its state, so that a request need not
    /// look at the states.
    pub(super) chosen: Arc<Deployed>,
}

impl Routes {
    /// Choose the version for requests that name none; true if it is another one than before.
    pub(super) fn choose(&mut self) -> bool {
        let rank = |deployed: &&Arc<Deployed>| {
            let state = deployed.version.life.lock().state();
            let serves = match state {
                State::Ready | State::Degraded => 2,
                State::Configured | State::Loading | State::Warming => 1, // it says so, until it takes over from older versions
                State::Draining | State::Unloaded | State::Failed => 0,
            };
            let number = deployed.version.version.parse::<u64>().ok();
            (serves, number, &*deployed.version.version == "default", deployed.version.serial)
        };
        let Some(best) = self.versions.values().max_by_key(rank).cloned() else { return false };
        let is_new = !Arc::ptr_eq(&best, &self.chosen);
        self.chosen = best;
        is_new
    }
}

/// The services among what new requests get, by name.
pub(super) fn services_of(routes: &BTreeMap<String, Routes>) -> Vec<Arc<Version>> {
    let chosen = routes.values().map(|routes| &routes.chosen.version);
    chosen.filter(|version| version.spec.service.is_some()).cloned().collect()
}

/// The routes of a model, or of the service of `<service>.<method>` with the method.
pub(super) fn lookup<'r, 'm>(
    routes: &'r BTreeMap<String, Routes>,
    model: &'m str,
) -> Result<(&'r Routes, Option<&'m str>), Error> {
    if let Some(found) = routes.get(model) {
        return Ok((found, None));
    }
    let split = model.rsplit_once('.');
    let of_service = split.and_then(|(service, method)| Some((routes.get(service)?, Some(method))));
    of_service.filter(|(routes, method)| routes.chosen.named(*method).is_some()).ok_or_else(|| unknown(model))
}

/// What is said to a name that no model has.
pub(super) fn unknown(model: &str) -> Error {
    let text =
        format!("no model {:?}; the repository index or `samovar models list` shows those there are", echo(model));
    Error::new(Code::UnknownModel, text)
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::config::{ExposeErrors, VersionSpec};

    fn deployed(serial: u64, version: &str, state: State) -> Arc<Deployed> {
        let spec = VersionSpec::undescribed("m".into(), version.into());
        let version = Version::new(serial, spec, Arc::default(), Arc::default(), ExposeErrors::Id);
        version.enter(state, "", None);
        Arc::new(Deployed::new(version, watch::channel(false).0))
    }

    #[tokio::test]
    async fn a_request_without_a_version_gets_the_best_that_serves() {
        use State::{Degraded, Failed, Loading, Ready, Unloaded};
        for (versions, wanted) in [
            (&[("1", Ready), ("2", Ready), ("10", Degraded)][..], "10"),
            (&[("1", Ready), ("2", Loading)], "1"),
            (&[("1", Ready), ("2", Failed), ("3", Unloaded)], "1"),
            (&[("1", Failed), ("2", Loading)], "2"),
            (&[("a", Ready), ("default", Ready), ("b", Ready)], "default"),
            (&[("b", Ready), ("a", Ready)], "a"),
            (&[("a", Ready), ("default", Ready), ("1", Ready)], "1"),
        ] {
            let all: Vec<_> =
                versions.iter().zip(1..).map(|((name, state), serial)| deployed(serial, name, *state)).collect();
            let named = |deployed: &Arc<Deployed>| (deployed.version.version.to_string(), Arc::clone(deployed));
            let mut routes = Routes { versions: all.iter().map(named).collect(), chosen: Arc::clone(&all[0]) };
            assert_eq!(routes.choose(), *all[0].version.version != *wanted);
            assert_eq!(&*routes.chosen.version.version, wanted);
            assert!(!routes.choose());
        }
    }
}

//! What only the owner of the engine may ask, over the admin socket: the state of everything, and what happens to it.

use std::borrow::Cow;
use std::time::Duration;

use samovar_core::error::{Error, echo};
use samovar_core::history::News;

use super::reply::Reply;
use super::routes::percent_decode;
use crate::data_plane::DataPlane;
use crate::door::invalid;

/// Longest wait for an event; clients ask again.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// `GET /admin/state`.
pub(super) fn state(plane: &DataPlane) -> Result<Reply, Error> {
    Reply::json(&plane.state())
}

/// `GET /admin/events?after=N&wait_s=S&model=NAME`: what happened after number N; waits up to S seconds for it.
pub(super) async fn events(plane: &DataPlane, query: Option<&str>) -> Result<Reply, Error> {
    let wanted = Wanted::parse(query.unwrap_or_default())?;
    let news: News = plane.events_after(wanted.after, wanted.model.as_deref(), wanted.wait).await;
    Reply::json(&news)
}

#[derive(Debug, Default, PartialEq)]
struct Wanted<'a> {
    after: u64,
    wait: Duration,
    model: Option<Cow<'a, str>>,
}

impl<'a> Wanted<'a> {
    fn parse(query: &'a str) -> Result<Self, Error> {
        let mut wanted = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let faulty = |want: &str| invalid(format!("{} is \"{}\"; want {want}", echo(key), echo(value)));
            match key {
                "after" => wanted.after = value.parse().map_err(|_| faulty("the number of an event, 0 for all"))?,
                "wait_s" => {
                    let wait = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                    let wait = wait.filter(|wait| *wait <= MAX_WAIT);
                    wanted.wait = wait.ok_or_else(|| faulty("seconds from 0 to 60"))?;
                }
                "model" => wanted.model = Some(percent_decode(value).ok_or_else(|| faulty("the name of a model"))?),
                _ => return Err(invalid(format!("unknown key \"{}\"; want after, wait_s or model", echo(key)))),
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_say_what_is_wanted() {
        assert_eq!(Wanted::parse("").unwrap(), Wanted::default());
        let wanted = Wanted { after: 7, wait: Duration::from_millis(1_500), model: Some("a-b".into()) };
        assert_eq!(Wanted::parse("after=7&wait_s=1.5&model=a%2Db").unwrap(), wanted);
        for query in ["after=-1", "after=x", "after", "wait_s=61", "wait_s=nan", "wait_s=-1", "model=%ff", "modle=x"] {
            let error = Wanted::parse(query).unwrap_err();
            assert!(error.message.contains("want"), "{query}: {error}");
        }
    }
}

//! Which answers are compressed, and how: what `Accept-Encoding` says (RFC 9110, 12.5.3).

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::ACCEPT_ENCODING;

use crate::deflate::deflate;
use crate::inflate::Coding;

/// A smaller answer is one packet anyway.
pub(super) const MIN_BYTES: usize = 1 << 10;

/// `body` as the client wants it most; `None` to send it as it is.
pub(super) async fn compress(headers: &HeaderMap, body: &[u8]) -> Option<(Coding, Bytes)> {
    let coding = wanted(headers)?;
    Some((coding, deflate(coding, body).await?))
}

/// The coding that the client wants most; `None` if it wants bodies as they are.
pub(super) fn wanted(headers: &HeaderMap) -> Option<Coding> {
    preferred(headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()))
}

/// The coding with the highest weight, gzip among equals; none if the client wants the bytes as they are at least as
/// much, or does not say.
fn preferred<'a>(values: impl Iterator<Item = &'a str>) -> Option<Coding> {
    let (mut gzip, mut deflate, mut identity, mut others) = (None, None, None, None);
    for part in values.flat_map(|value| value.split(',')) {
        let (name, weight) = part.split_once(';').unwrap_or((part, ""));
        let name = name.trim();
        let place = match Coding::named(name.as_bytes()) {
            Some(Coding::Gzip) => &mut gzip,
            Some(Coding::Deflate) => &mut deflate,
            None if name.eq_ignore_ascii_case("identity") => &mut identity,
            None if name == "*" => &mut others,
            None => continue,
        };
        *place = Some(thousandths(weight));
    }
    let (gzip, deflate) = (gzip.or(others).unwrap_or(0), deflate.or(others).unwrap_or(0));
    let (coding, weight) = if gzip >= deflate { (Coding::Gzip, gzip) } else { (Coding::Deflate, deflate) };
    (weight > identity.unwrap_or(0)).then_some(coding)
}

/// `q=0.5` as 500; 1000 where it is not said, 0 where it makes no sense.
fn thousandths(weight: &str) -> u32 {
    let weight = weight.trim();
    if weight.is_empty() {
        return 1_000;
    }
    let value = weight.strip_prefix("q=").or_else(|| weight.strip_prefix("Q=")).map(str::trim);
    let value = value.and_then(|value| value.parse::<f32>().ok()).filter(|value| (0.0..=1.0).contains(value));
    value.map_or(0, |value| (value * 1e3) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_decide() {
        for (values, wanted) in [
            (&[][..], None),
            (&[""], None),
            (&["gzip"], Some(Coding::Gzip)),
            (&["deflate"], Some(Coding::Deflate)),
            (&["gzip, deflate, br"], Some(Coding::Gzip)),
            (&["deflate, gzip;q=0.5"], Some(Coding::Deflate)),
            (&["deflate;q=0.4", "GZIP; q=0.5"], Some(Coding::Gzip)),
            (&["gzip;q=0.5, identity"], None),
            (&["gzip;q=1, identity;q=0.5"], Some(Coding::Gzip)),
            (&["gzip;q=0"], None),
            (&["gzip;q=0, *"], Some(Coding::Deflate)),
            (&["*"], Some(Coding::Gzip)),
            (&["br, zstd"], None),
            (&["gzip;q=x"], None),
            (&["gzip;q=2"], None),
        ] {
            assert_eq!(preferred(values.iter().copied()), wanted, "{values:?}");
        }
    }
}

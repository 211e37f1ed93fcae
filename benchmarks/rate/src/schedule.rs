//! When requests are due.

use std::time::Duration;

/// Arrivals of a Poisson process from 0 to `seconds`: gaps are exponential (inverse of their distribution, applied to
/// the numbers of SplitMix64 from a fixed seed, so that everybody meets the same ones).
pub(crate) fn arrivals(per_second: f64, seconds: f64) -> Vec<Duration> {
    let mut state = 7_u64;
    let mut now = 0.0;
    let gaps = std::iter::repeat_with(|| -(1.0 - uniform(&mut state)).ln() / per_second);
    gaps.map(|gap| {
        now += gap;
        now
    })
    .take_while(|now| *now < seconds)
    .map(Duration::from_secs_f64)
    .collect()
}

/// A number in [0, 1) (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_come_at_the_rate_and_in_order() {
        let due = arrivals(1_000.0, 20.0);
        assert!((19_000..21_000).contains(&due.len()), "{}", due.len());
        assert!(due.is_sorted());
        assert!(due.last().is_some_and(|last| last.as_secs_f64() < 20.0));
    }

    #[test]
    fn gaps_vary_as_those_of_a_poisson_process_do() {
        let due = arrivals(1_000.0, 20.0);
        let gaps: Vec<f64> = due.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.05 && (variance - 1.0).abs() < 0.1, "{mean} {variance}");
    }
}

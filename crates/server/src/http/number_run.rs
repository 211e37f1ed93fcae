//! Runs of FP32 elements: plain decimals with a comma behind each, as tensors have them.
//!
//! [`super::number`] reads one number of any form; this reads thousands of the one form that they nearly all have, with
//! no branch that depends on a number's digits, sign or length. Where an element is odd in any way (a bracket, an
//! exponent, a fault, a value close to the middle of two f32), the run ends in front of it and the other file has its say:
//! what is an error, and what it says, is known there alone.
//!
//! One core reads 139 million numbers a second, of 8 digits or of 17; one by one it was 41 and 33 million.

use super::number_lanes::{DIGITS, eight, fraction, others};

/// A number, and what is looked at behind it.
const WINDOW: usize = 40;
/// Elements that are read before they are appended.
const BLOCK: usize = 64;
/// Digits in front of the point, at the most.
const MAX_WHOLE: usize = 8;
/// Digits behind the point that count. The others are less than 1e-16 together.
const FRACTION: usize = 16;
/// Digits in front of the comma have places in a 32-bit mask that a sign may shift by one.
const MAX_LENGTH: usize = 30;

/// Read elements from the front of `text`, `most` at the most, and append them to `out` as little-endian f32: how many
/// they were, and how many bytes of text.
#[inline]
pub(super) fn float32(text: &[u8], most: usize, out: &mut Vec<u8>) -> (usize, usize) {
    match text.first() {
        Some(b'0'..=b'9' | b'-') => to_the_end::<0>(text, most, out),
        Some(b' ') => to_the_end::<1>(text, most, out),
        _ => (0, 0),
    }
}

/// The same, where each element has `SPACES` in front of it. The last ones are too close to the end of the text for a
/// window; they are read where there is something behind them.
fn to_the_end<const SPACES: usize>(text: &[u8], most: usize, out: &mut Vec<u8>) -> (usize, usize) {
    let (count, bytes) = blocks::<SPACES>(text, most, out);
    let end = text.get(bytes..).unwrap_or_default();
    let mut padded = [b' '; 2 * WINDOW];
    let Some(place) = padded.get_mut(..end.len()).filter(|place| place.len() < WINDOW) else { return (count, bytes) };
    place.copy_from_slice(end);
    let (more, length) = blocks::<SPACES>(&padded, most - count, out);
    (count + more, bytes + length)
}

/// The same, where each element has `SPACES` in front of it.
fn blocks<const SPACES: usize>(text: &[u8], most: usize, out: &mut Vec<u8>) -> (usize, usize) {
    let mut block = [[0; 4]; BLOCK];
    let (mut count, mut at) = (0, 0);
    loop {
        let wanted = BLOCK.min(most - count);
        let mut read = 0;
        for place in block.iter_mut().take(wanted) {
            let Some((element, length)) = text.get(at..).and_then(element::<SPACES>) else { break };
            *place = element.to_le_bytes();
            read += 1;
            at += length;
        }
        out.extend_from_slice(block.get(..read).unwrap_or_default().as_flattened());
        count += read;
        if read < BLOCK {
            return (count, at);
        }
    }
}

/// The element in front of `text`, and its length with spaces and comma.
#[inline(always)]
fn element<const SPACES: usize>(text: &[u8]) -> Option<(f32, usize)> {
    let text = match SPACES {
        0 => text,
        _ => text.strip_prefix(&[b' '; SPACES])?,
    };
    let window: &[u8; WINDOW] = text.first_chunk()?;
    let is_negative = window[0] == b'-';
    let sign = usize::from(is_negative);
    let number = &window[sign..];
    let others = others(window) >> sign;
    let whole = others.trailing_zeros() as usize;
    if whole == 0 || whole > MAX_WHOLE {
        return None;
    }
    let mut magnitude = if whole == 1 { f64::from(number[0] & 15) } else { several(number, whole)? };
    let mut end = whole;
    if number[whole] == b'.' {
        end = (others & (others - 1)).trailing_zeros() as usize;
        let places = end - whole - 1;
        if places == 0 || end > MAX_LENGTH {
            return None;
        }
        magnitude += fraction(number[whole + 1..].first_chunk()?, places.min(FRACTION));
        // No branch: pictures have numbers of 15 to 18 places in no order, and to guess wrong costs a fifth of all.
        if magnitude < LEAST[places & 31] {
            return None;
        }
    }
    if number[end] != b',' || !rounds_alike(magnitude) {
        return None;
    }
    let element = f32::from_bits((magnitude as f32).to_bits() | u32::from(is_negative) << 31);
    Some((element, SPACES + sign + end + 1))
}

/// The digits in front of the point where there are more than one; none where they begin with a zero.
#[inline(always)]
fn several(number: &[u8], whole: usize) -> Option<f64> {
    if number[0] == b'0' {
        return None;
    }
    // The first digit is the highest of eight: what is missing becomes zeros in front.
    let word = (u64::from_le_bytes(*number.first_chunk()?) ^ DIGITS) << (64 - 8 * whole);
    Some(f64::from(eight(word)))
}

/// A number with more digits than are read is no smaller, so that it is known to 2^13 units in its last place as f64:
/// 1e-16 / (2^-13 * 2^-53) = 7,379, and 4 from the arithmetic.
const LEAST_OF_MANY_PLACES: f64 = 1.0 / (1 << 13) as f64;
/// By places behind the point, how small a number may be; the rest only makes the index a mask.
const LEAST: [f64; 32] = {
    let mut least = [0.0; 32];
    let mut places = FRACTION + 1;
    while places < least.len() {
        least[places] = LEAST_OF_MANY_PLACES;
        places += 1;
    }
    least
};
/// Any other number is known to 4 units.
const UNKNOWN: u64 = 1 << 13;

/// Does every number within [`UNKNOWN`] units of `magnitude` round to the same f32? It must not lie so close to the middle
/// of two. All numbers here are 0 or between 1e-16 and 1e8, where f32 has its 24 bits.
#[inline(always)]
fn rounds_alike(magnitude: f64) -> bool {
    const LOST_BITS: u64 = (1 << 29) - 1;
    const MIDDLE: u64 = 1 << 28;
    (magnitude.to_bits() & LOST_BITS).abs_diff(MIDDLE) > UNKNOWN
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read of `numbers`, each with a comma behind it, and how much of their text.
    fn run(numbers: &[String], comma: &str) -> (Vec<u32>, usize) {
        let text: String = numbers.iter().map(|number| format!("{number}{comma}")).collect();
        let text = format!("{}{text}]{}", comma.replace(',', ""), " ".repeat(WINDOW));
        let mut out = Vec::new();
        let (count, bytes) = float32(text.as_bytes(), usize::MAX, &mut out);
        let (elements, _) = out.as_chunks();
        assert_eq!(elements.len(), count);
        (elements.iter().map(|element| u32::from_le_bytes(*element)).collect(), bytes)
    }

    /// Is `number` read? If so, as the f32 to which the standard library rounds it.
    fn check(number: String) -> Result<bool, TestCaseError> {
        let wanted = number.parse::<f32>().unwrap().to_bits();
        let (read, bytes) = run(std::slice::from_ref(&number), ",");
        prop_assert!(read.is_empty() && bytes == 0 || read == [wanted] && bytes == number.len() + 1, "{}", number);
        Ok(!read.is_empty())
    }

    #[test]
    fn plain_decimals_are_read_to_the_end() {
        let numbers =
            ["0", "-0", "0.0", "-0.0", "7.25", "-12345678.25", "0.0001220703125", "3.1415927410125732", "255"];
        let numbers: Vec<String> = numbers.map(str::to_owned).into_iter().cycle().take(9 * BLOCK).collect();
        let wanted: Vec<u32> = numbers.iter().map(|number| number.parse::<f32>().unwrap().to_bits()).collect();
        let length = numbers.iter().map(|number| number.len() + 1).sum::<usize>();
        assert_eq!(run(&numbers, ","), (wanted.clone(), length));
        assert_eq!(run(&numbers, ", "), (wanted, length + numbers.len()));
    }

    #[test]
    fn the_last_elements_of_a_text_are_read() {
        for (text, wanted) in
            [("0.5,1.25,2]", (2, 9)), ("7,", (1, 2)), (" 1, 2, 3]", (2, 6)), ("8]", (0, 0)), ("8", (0, 0))]
        {
            let mut out = Vec::new();
            assert_eq!(float32(text.as_bytes(), usize::MAX, &mut out), wanted, "{text}");
            assert_eq!(out.len(), 4 * wanted.0);
        }
        assert_eq!(float32(b"1,2,3,", 2, &mut Vec::new()), (2, 4));
    }

    #[test]
    fn no_more_is_read_than_is_wanted() {
        let text = "1,".repeat(300);
        for most in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK] {
            let mut out = Vec::new();
            assert_eq!(float32(text.as_bytes(), most, &mut out), (most, 2 * most));
            assert_eq!(out.len(), 4 * most);
        }
    }

    #[test]
    fn a_run_ends_in_front_of_what_is_odd() {
        for odd in [
            "01",
            "-01",
            "00.5",
            "1.",
            ".5",
            "-",
            "--1",
            "+1",
            "",
            "1e5",
            "1.5E3",
            "1.5 ",
            "1\t",
            "123456789",
            "1.2.3",
            "x",
            "\"1\"",
            "[1",
            "1]",
            "nul",
            "NaN",
            "0.00000000000000001",
            "0.12345678901234567890123456789",
            "1.0\u{e9}",
            "16777217",
            "1.00000005960464478",
        ] {
            let numbers = ["1.5".to_owned(), odd.to_owned(), "2".to_owned()];
            assert_eq!(run(&numbers, ","), (vec![1.5_f32.to_bits()], 4), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn every_f32_comes_back(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            for number in [format!("{value}"), format!("{value:?}"), format!("{}", f64::from(value))] {
                check(number)?;
            }
        }

        #[test]
        fn usual_f32_are_read_without_exception(value in -1e6_f32..1e6) {
            prop_assume!(value.abs() > 1e-3 || value == 0.0);
            for number in [format!("{value}"), format!("{}", f64::from(value))] {
                let is_read = check(number)?;
                prop_assert!(is_read);
            }
        }

        #[test]
        fn decimals_round_once(whole in 0_u64..200_000_000, fraction in any::<u64>(), places in 1_usize..22) {
            check(format!("{whole}.{fraction:0places$}"))?;
            check(format!("-0.{fraction:0places$}"))?;
        }

        #[test]
        fn decimals_beside_the_middle_of_two_f32_round_once(
            bits in 0x3000_0000_u32..0x4d00_0000, ulps in -10_000_i64..10_000, places in 1_usize..24,
        ) {
            let middle = (f64::from(f32::from_bits(bits)) + f64::from(f32::from_bits(bits + 1))) / 2.0;
            check(format!("{:.*}", places, f64::from_bits(middle.to_bits().wrapping_add_signed(ulps))))?;
            check(format!("{middle}"))?;
        }

        #[test]
        fn any_bytes_end_a_run(bytes in "[0-9.,\\-+e \\[\\]]{0,80}") {
            let text = format!("{bytes}{}", " ".repeat(WINDOW));
            let mut out = Vec::new();
            let (count, length) = float32(text.as_bytes(), usize::MAX, &mut out);
            let numbers: Vec<&str> = text[..length].split_terminator(',').collect();
            prop_assert_eq!(numbers.len(), count);
            let (elements, _) = out.as_chunks();
            for (number, element) in numbers.iter().zip(elements) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(number).unwrap().is_number());
                prop_assert_eq!(f32::from_le_bytes(*element).to_bits(), number.trim().parse::<f32>().unwrap().to_bits());
            }
        }
    }
}

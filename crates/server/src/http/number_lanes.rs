//! Digits side by side: which bytes are some, and what they say together. The one file of this crate with `unsafe` code:
//! SSE2, which every x86-64 has, makes runs of numbers 45 % faster than [`portable`], which the others have.
#![allow(unsafe_code)]

/// What turns eight ASCII digits into their values, by exclusive or.
pub(super) const DIGITS: u64 = 0x3030_3030_3030_3030;

/// The first so many bytes of sixteen.
const FIRST: [u128; 17] = {
    let mut masks = [u128::MAX; 17];
    let mut count = 0;
    while count < 16 {
        masks[count] = (1 << (8 * count)) - 1;
        count += 1;
    }
    masks
};

/// Which of the first 32 bytes are no digits, the first byte in the lowest bit.
#[inline(always)]
pub(super) fn others(window: &[u8; 40]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is a part of x86-64.
    return unsafe { sse2::others(window) };
    #[cfg(not(target_arch = "x86_64"))]
    portable::others(window)
}

/// The first `count` bytes of `text`, 16 at the most, as the digits behind a point; four units in the last place off at
/// the most.
#[inline(always)]
pub(super) fn fraction(text: &[u8; 16], count: usize) -> f64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is a part of x86-64.
    return unsafe { sse2::fraction(text, FIRST[count.min(16)]) };
    #[cfg(not(target_arch = "x86_64"))]
    portable::fraction(text, FIRST[count.min(16)])
}

/// The number of eight digits' values, the lowest byte being the first (after Lemire's SWAR form).
#[inline(always)]
pub(super) fn eight(word: u64) -> u32 {
    let pairs = word.wrapping_mul(2_561) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(6_553_601) >> 16;
    ((fours & 0x0000_ffff_0000_ffff).wrapping_mul(42_949_672_960_001) >> 32) as u32
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::*;

    /// Sixteen bytes of text, digits as their values.
    #[target_feature(enable = "sse2")]
    #[inline]
    fn digits(text: u128) -> __m128i {
        _mm_xor_si128(_mm_set_epi64x((text >> 64) as i64, text as i64), _mm_set1_epi8(0x30))
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn are_digits(text: u128) -> u32 {
        let values = digits(text);
        _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(values, _mm_set1_epi8(9)), values)) as u32
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    pub(super) fn others(window: &[u8; 40]) -> u32 {
        let (halves, _) = window.as_chunks();
        !(are_digits(u128::from_le_bytes(halves[0])) | are_digits(u128::from_le_bytes(halves[1])) << 16)
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    pub(super) fn fraction(text: &[u8; 16], first: u128) -> f64 {
        let first = _mm_set_epi64x((first >> 64) as i64, first as i64);
        let ones = _mm_and_si128(digits(u128::from_le_bytes(*text)), first);
        let pairs = _mm_srli_epi16(_mm_mullo_epi16(ones, _mm_set1_epi16(2_561)), 8);
        let fours = _mm_madd_epi16(pairs, _mm_set1_epi32(1 << 16 | 100));
        let eights = _mm_madd_epi16(_mm_packs_epi32(fours, fours), _mm_set1_epi32(1 << 16 | 10_000));
        let parts = _mm_mul_pd(_mm_cvtepi32_pd(eights), _mm_set_pd(1e-16, 1e-8));
        _mm_cvtsd_f64(_mm_add_sd(parts, _mm_unpackhi_pd(parts, parts)))
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    use super::{DIGITS, eight};

    pub(super) fn others(window: &[u8; 40]) -> u32 {
        let (words, _) = window.as_chunks();
        words.iter().take(4).rev().fold(0, |others, word| others << 8 | of_eight(u64::from_le_bytes(*word)))
    }

    /// One bit for each of eight bytes that is no digit.
    fn of_eight(text: u64) -> u32 {
        let values = text ^ DIGITS;
        let others = (((values & 0x7f7f_7f7f_7f7f_7f7f) + 0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
        ((others >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
    }

    pub(super) fn fraction(text: &[u8; 16], first: u128) -> f64 {
        let ones = (u128::from_le_bytes(*text) ^ (u128::from(DIGITS) << 64 | u128::from(DIGITS))) & first;
        let (high, low) = (eight(ones as u64), eight((ones >> 64) as u64));
        (u64::from(high) * 100_000_000 + u64::from(low)) as i64 as f64 * 1e-16
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_byte_is_a_digit_or_none() {
        for byte in 0..=u8::MAX {
            for place in 0..32 {
                let mut window = [b'7'; 40];
                window[place] = byte;
                let wanted = u32::from(!byte.is_ascii_digit()) << place;
                assert_eq!((others(&window), portable::others(&window)), (wanted, wanted), "{byte}");
            }
        }
    }

    proptest! {
        #[test]
        fn eight_digits_are_a_number(number in 0_u32..100_000_000) {
            let text = format!("{number:08}");
            let word = u64::from_le_bytes(*text.as_bytes().first_chunk().unwrap());
            prop_assert_eq!(eight(word ^ DIGITS), number);
        }

        #[test]
        fn fractions_are_four_units_off_at_the_most(digits in 0_u64..10_000_000_000_000_000, count in 1_usize..17) {
            let text = format!("{digits:016}");
            let bytes = text.as_bytes().first_chunk().unwrap();
            let wanted: f64 = format!("0.{}", &text[..count]).parse().unwrap();
            for got in [fraction(bytes, count), portable::fraction(bytes, FIRST[count])] {
                prop_assert!(got.to_bits().abs_diff(wanted.to_bits()) <= 4, "{} {}", text, count);
            }
        }

        #[test]
        fn what_stands_behind_the_digits_does_not_matter(text in any::<[u8; 16]>(), count in 1_usize..16) {
            let mut digits = text.map(|byte| b'0' + byte % 10);
            let wanted = fraction(&digits, count);
            digits[count..].copy_from_slice(&text[count..]);
            prop_assert_eq!(fraction(&digits, count), wanted);
            prop_assert!(portable::fraction(&digits, FIRST[count]).to_bits().abs_diff(wanted.to_bits()) <= 4);
        }
    }
}

//! Reading JSON numbers into the types of tensors, and their exact limits.
//!
//! Most floats take the fast path of Clinger (1990): up to 2^53 as digits and a power of ten up to 22 are both exact
//! in an f64, so one multiplication or division rounds correctly. An f32 has 29 bits less, so it also bears digits that
//! are not exact. The rest goes to Eisel-Lemire (`fast-float2`).

use samovar_core::error::{Error, echo};

use super::json::Cursor;
use crate::door::invalid;

const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// An integer as sign and magnitude: the one form that holds every INT64 and UINT64.
pub(super) struct Integer {
    pub(super) negative: bool,
    pub(super) magnitude: u64,
}

/// Read an integer of at most 64 bits; a fraction or an exponent is an error even where it says a whole number.
#[inline]
fn integer(cursor: &mut Cursor<'_>) -> Result<Integer, Error> {
    let negative = cursor.token() == Some(b'-');
    let text = cursor.rest();
    let start = usize::from(negative);
    let mut at = start;
    let mut magnitude = 0_u64;
    let count = read_digits(text, &mut at, &mut magnitude);
    let leading_zero = count > 1 && text.get(start) == Some(&b'0');
    if count == 0 || leading_zero || matches!(text.get(at), Some(b'.' | b'e' | b'E')) {
        return Err(refuse(cursor, "is no integer"));
    }
    if count > 19 {
        // 19 digits always fit, 20 may.
        let digits = text.get(start..at).and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(exact) = digits.and_then(|digits| digits.parse().ok()) else {
            return Err(refuse(cursor, "does not fit in 64 bits"));
        };
        magnitude = exact;
    }
    cursor.advance(at);
    Ok(Integer { negative, magnitude })
}

/// A type of integer that a tensor can hold.
pub(super) trait FromInteger: Sized {
    /// Its value if it is in range.
    fn from_integer(integer: &Integer) -> Option<Self>;
}

macro_rules! from_integer {
    ($($unsigned:ty, $signed:ty;)+) => {$(
        impl FromInteger for $unsigned {
            #[inline]
            fn from_integer(integer: &Integer) -> Option<Self> {
                if integer.negative && integer.magnitude != 0 { return None; }
                Self::try_from(integer.magnitude).ok()
            }
        }
        impl FromInteger for $signed {
            #[inline]
            fn from_integer(integer: &Integer) -> Option<Self> {
                if !integer.negative {
                    return Self::try_from(integer.magnitude).ok();
                }
                let value = 0_i64.checked_sub_unsigned(integer.magnitude)?;
                Self::try_from(value).ok()
            }
        }
    )+};
}

from_integer! { u8, i8; u16, i16; u32, i32; u64, i64; }

/// Read an integer of type `T`, called `name` in the message.
#[inline]
pub(super) fn integer_of<T: FromInteger>(cursor: &mut Cursor<'_>, name: &str) -> Result<T, Error> {
    let start = cursor.position();
    let integer = integer(cursor)?;
    T::from_integer(&integer).ok_or_else(|| refuse(&cursor.back_to(start), &format!("does not fit {name}")))
}

/// A number as digits and a power of ten, with its text.
struct Decimal<'a> {
    negative: bool,
    digits: u64,
    exponent: i64,
    /// False if `digits` overflowed.
    exact: bool,
    text: &'a [u8],
}

/// Read a number of JSON's grammar.
#[inline]
fn decimal<'a>(cursor: &mut Cursor<'a>) -> Result<Decimal<'a>, Error> {
    cursor.token();
    let text = cursor.rest();
    let negative = text.first() == Some(&b'-');
    let mut at = usize::from(negative);
    let mut digits = 0_u64;
    let whole = read_digits(text, &mut at, &mut digits);
    let leading_zero = whole > 1 && text.get(usize::from(negative)) == Some(&b'0');
    if whole == 0 || leading_zero {
        return Err(refuse(cursor, "is no number"));
    }
    let mut fraction = 0;
    if text.get(at) == Some(&b'.') {
        at += 1;
        fraction = read_digits(text, &mut at, &mut digits);
        if fraction == 0 {
            return Err(refuse(cursor, "is no number"));
        }
    }
    let mut exponent = -(fraction as i64);
    if matches!(text.get(at), Some(b'e' | b'E')) {
        exponent += read_exponent(text, &mut at).ok_or_else(|| refuse(cursor, "is no number"))?;
    }
    cursor.advance(at);
    Ok(Decimal { negative, digits, exponent, exact: whole + fraction <= 19, text: text.get(..at).unwrap_or_default() })
}

/// Append the digits at `at` to `digits` (wrapping) and return how many there were; up to eight at a time, without a
/// branch on their number.
#[inline]
fn read_digits(text: &[u8], at: &mut usize, digits: &mut u64) -> usize {
    let start = *at;
    while let Some(eight) = text.get(*at..).and_then(|rest| rest.first_chunk::<8>()) {
        let (count, value) = leading_digits(u64::from_le_bytes(*eight));
        *digits = digits.wrapping_mul(SMALL_POWERS[count & 15]).wrapping_add(value);
        *at += count;
        if count < 8 {
            return *at - start;
        }
    }
    while let Some(digit) = text.get(*at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        *digits = digits.wrapping_mul(10).wrapping_add(u64::from(digit));
        *at += 1;
    }
    *at - start
}

/// Powers of ten up to eight digits; the rest only makes the index a mask.
const SMALL_POWERS: [u64; 16] =
    [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 0, 0, 0, 0, 0, 0, 0];

/// How many of eight ASCII bytes, from the lowest on, are digits, and their value (after Lemire's SWAR form).
#[inline]
fn leading_digits(word: u64) -> (usize, u64) {
    let word = word ^ 0x3030_3030_3030_3030; // a digit is now its value
    let others = (((word & 0x7f7f_7f7f_7f7f_7f7f) + 0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
    let count = (others.trailing_zeros() / 8) as usize;
    if count == 0 {
        return (0, 0);
    }
    // The first digit is the highest of eight: what is missing becomes zeros in front.
    let word = word << (64 - 8 * count);
    let pairs = word.wrapping_mul(2561) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(6_553_601) >> 16;
    (count, (fours & 0x0000_ffff_0000_ffff).wrapping_mul(42_949_672_960_001) >> 32)
}

/// The exponent behind `e`, saturating far outside of every float's range.
fn read_exponent(text: &[u8], at: &mut usize) -> Option<i64> {
    *at += 1;
    let negative = text.get(*at) == Some(&b'-');
    if matches!(text.get(*at), Some(b'+' | b'-')) {
        *at += 1;
    }
    let start = *at;
    let mut exponent = 0_i64;
    while let Some(digit) = text.get(*at).filter(|byte| byte.is_ascii_digit()) {
        exponent = exponent.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(1 << 40);
        *at += 1;
    }
    (*at > start).then_some(if negative { -exponent } else { exponent })
}

impl Decimal<'_> {
    /// Digits times power of ten as one f64 operation: off by 1.5 units in the last place at the most, and exact where
    /// the digits fit in 53 bits.
    #[inline]
    fn approximate(&self) -> Option<f64> {
        let power = EXACT_POWERS.get(usize::try_from(self.exponent.unsigned_abs()).ok()?)?;
        let digits = self.digits as f64;
        let value = if self.exponent < 0 { digits / power } else { digits * power };
        self.exact.then_some(if self.negative { -value } else { value })
    }
}

/// Read an f64; what rounds to infinity is an error.
#[inline]
pub(super) fn float64(cursor: &mut Cursor<'_>) -> Result<f64, Error> {
    let start = cursor.position();
    let decimal = decimal(cursor)?;
    let value = if decimal.digits <= 1 << 53 { decimal.approximate() } else { None };
    let value = value.or_else(|| fast_float2::parse(decimal.text).ok());
    value.filter(|value: &f64| value.is_finite()).ok_or_else(|| refuse(&cursor.back_to(start), "does not fit FP64"))
}

/// Read an f32, rounded once; what rounds to infinity is an error.
#[inline]
pub(super) fn float32(cursor: &mut Cursor<'_>) -> Result<f32, Error> {
    let start = cursor.position();
    let decimal = decimal(cursor)?;
    let value = decimal.approximate().and_then(narrow).or_else(|| fast_float2::parse(decimal.text).ok());
    value.filter(|value: &f32| value.is_finite()).ok_or_else(|| refuse(&cursor.back_to(start), "does not fit FP32"))
}

/// `value` as f32 if the decimal that it approximates rounds to the same f32: it must not lie close to the middle of
/// two f32. True for the 17 digits as which Python prints an f32, which would be too many for an f64.
#[inline]
fn narrow(value: f64) -> Option<f32> {
    const LOST_BITS: u64 = (1 << 29) - 1;
    const MIDDLE: u64 = 1 << 28;
    let is_clear = (value.to_bits() & LOST_BITS).abs_diff(MIDDLE) > 4;
    let magnitude = value.abs();
    let is_normal = magnitude == 0.0 || (magnitude >= f64::from(f32::MIN_POSITIVE) && magnitude <= f64::from(f32::MAX));
    (is_normal && is_clear).then_some(value as f32)
}

/// What is wrong with the token here.
#[cold]
fn refuse(cursor: &Cursor<'_>, why: &str) -> Error {
    let mut cursor = cursor.clone();
    cursor.token(); // the number begins behind the space
    let token: Vec<u8> =
        cursor.rest().iter().copied().take_while(|byte| !b",]}[{: \t\r\n".contains(byte)).take(40).collect();
    let token = String::from_utf8_lossy(&token).into_owned();
    if token.is_empty() { cursor.fault("a number") } else { invalid(format!("`{}` {why}", echo(&token))) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<T>(text: &str, read: impl Fn(&mut Cursor<'_>) -> Result<T, Error>) -> Option<T> {
        let mut cursor = Cursor::new(text.as_bytes());
        let value = read(&mut cursor).ok()?;
        cursor.end().ok().map(|()| value)
    }

    #[test]
    fn integers_are_whole_and_in_range() {
        assert_eq!(read("255", |c| integer_of::<u8>(c, "UINT8")), Some(255));
        assert_eq!(read("-128", |c| integer_of::<i8>(c, "INT8")), Some(-128));
        assert_eq!(read("-0", |c| integer_of::<u8>(c, "UINT8")), Some(0));
        assert_eq!(read("18446744073709551615", |c| integer_of::<u64>(c, "UINT64")), Some(u64::MAX));
        assert_eq!(read("-9223372036854775808", |c| integer_of::<i64>(c, "INT64")), Some(i64::MIN));
        for text in
            ["256", "-1", "1.0", "1e2", "01", "", "-", "+1", "0x1", "1 2", "18446744073709551616", "NaN", "\"1\""]
        {
            assert_eq!(read(text, |c| integer_of::<u8>(c, "UINT8")), None, "{text}");
        }
        assert_eq!(read("-9223372036854775809", |c| integer_of::<i64>(c, "INT64")), None);
        assert_eq!(read("128", |c| integer_of::<i8>(c, "INT8")), None);
    }

    #[test]
    fn floats_follow_the_grammar_and_the_range() {
        for text in ["1e400", "-1e309", "NaN", "Infinity", "inf", ".5", "5.", "01", "1e", "1e+", "-", "", "+1", "1_0"] {
            assert_eq!(read(text, float64), None, "{text}");
        }
        assert_eq!(read("3.5e38", float32), None);
        assert_eq!(read("3.4028235e38", float32), Some(f32::MAX));
        assert_eq!(read("-0", float32).map(f32::to_bits), Some((-0.0_f32).to_bits()));
        assert_eq!(read("1e-400", float64), Some(0.0));
        assert_eq!(read(&format!("0.{}1", "0".repeat(300)), float64), Some(1e-301));
        assert_eq!(read(&format!("1{}e-300", "0".repeat(300)), float64), Some(1.0));
    }

    #[test]
    fn midpoints_of_f32_round_once() {
        // 2^24 + 1 is a midpoint; a decimal just above it rounds to the same f64 but must round up as f32.
        assert_eq!(read("16777217", float32), Some(16_777_216.0));
        assert_eq!(read("16777217.0000000001", float32), Some(16_777_218.0));
        assert_eq!(read("1.00000005960464478", float32), "1.00000005960464478".parse().ok());
    }

    #[test]
    fn digits_are_counted_and_valued() {
        for (text, wanted) in [
            (b"12345678", (8, 12_345_678)),
            (b"1,345678", (1, 1)),
            (b"00120]  ", (5, 120)),
            (b"1234567/", (7, 1_234_567)),
            (b"123456:8", (6, 123_456)),
            (b"x2345678", (0, 0)),
            (b"99\xff99999", (2, 99)),
            (b"9\xb99999999"[..8].try_into().unwrap(), (1, 9)),
        ] {
            assert_eq!(leading_digits(u64::from_le_bytes(*text)), wanted);
        }
    }

    proptest! {
        #[test]
        fn f64_comes_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(read(&format!("{value:?}"), float64), Some(value));
            prop_assert_eq!(read(&format!("{value}"), float64), Some(value));
        }

        #[test]
        fn f32_comes_back(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(read(&format!("{:?}", f64::from(value)), float32), Some(value));
            prop_assert_eq!(read(&format!("{value:?}"), float32), Some(value));
        }

        #[test]
        fn decimals_round_as_the_standard_library_rounds(
            digits in any::<u64>(), shift in 0_u32..64, exponent in -50_i32..50,
        ) {
            let text = format!("{}e{exponent}", digits >> shift);
            prop_assert_eq!(read(&text, float64), text.parse().ok());
            prop_assert_eq!(read(&text, float32), text.parse().ok().filter(|value: &f32| value.is_finite()));
        }

        #[test]
        fn decimals_beside_the_middle_of_two_f32_round_as_the_standard_library_rounds(
            bits in 0x3000_0000_u32..0x5000_0000, ulps in -8_i64..9, digits in 15_usize..22,
        ) {
            let middle = (f64::from(f32::from_bits(bits)) + f64::from(f32::from_bits(bits + 1))) / 2.0;
            let text = format!("{:.*e}", digits, f64::from_bits(middle.to_bits().wrapping_add_signed(ulps)));
            prop_assert_eq!(read(&text, float32), text.parse().ok());
        }

        #[test]
        fn integers_come_back(value in any::<i64>(), natural in any::<u64>()) {
            prop_assert_eq!(read(&value.to_string(), |c| integer_of::<i64>(c, "INT64")), Some(value));
            prop_assert_eq!(read(&natural.to_string(), |c| integer_of::<u64>(c, "UINT64")), Some(natural));
        }
    }
}

//! Money: whole cents inside, decimals outside.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Number;

/// An amount of money. In JSON it is a number such as `124.76`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cents(pub u64);

impl Cents {
    /// The amount that a JSON number writes; `None` if it has parts of a cent, or is not one.
    ///
    /// It is read digit by digit: a product of fractions could be a cent off.
    pub fn of(number: &Number) -> Option<Cents> {
        let text = number.to_string();
        let (whole, parts) = text.split_once('.').unwrap_or((&text, ""));
        let whole: u64 = whole.parse().ok()?;
        let parts: u64 = match parts.len() {
            0 => 0,
            1 => parts.parse::<u64>().ok()? * 10,
            2 => parts.parse().ok()?,
            _ => return None,
        };
        whole.checked_mul(100)?.checked_add(parts).map(Cents)
    }

    /// So many times as much.
    pub fn times(self, count: u32) -> Cents {
        Cents(self.0.saturating_mul(u64::from(count)))
    }

    /// So many hundredths of it, rounded to a cent.
    pub fn percent(self, percent: u64) -> Cents {
        Cents(self.0.saturating_mul(percent).saturating_add(50) / 100)
    }
}

impl Add for Cents {
    type Output = Cents;

    fn add(self, other: Cents) -> Cents {
        Cents(self.0.saturating_add(other.0))
    }
}

impl Sum for Cents {
    fn sum<I: Iterator<Item = Cents>>(amounts: I) -> Cents {
        amounts.fold(Cents(0), Add::add)
    }
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl Serialize for Cents {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 100.0)
    }
}

impl<'de> Deserialize<'de> for Cents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cents, D::Error> {
        let number = Number::deserialize(deserializer)?;
        Cents::of(&number).ok_or_else(|| D::Error::custom(format!("{number} is no amount")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_and_written_to_the_cent() {
        for (text, cents) in [("124.76", 12_476), ("8.8", 880), ("7", 700), ("0.07", 7)] {
            let amount: Cents = serde_json::from_str(text).unwrap();
            assert_eq!(amount, Cents(cents));
            let back: Cents =
                serde_json::from_str(&serde_json::to_string(&amount).unwrap()).unwrap();
            assert_eq!(back, amount);
        }
        for text in ["1.005", "-1", "1e30", "\"1\""] {
            assert!(serde_json::from_str::<Cents>(text).is_err(), "{text}");
        }
        assert_eq!(Cents(12_405).to_string(), "124.05");
    }
}

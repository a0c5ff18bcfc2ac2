//! Rates as people write them: `"30/1m"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Span;

/// So many per time, written as a whole number, `/` and a duration. Neither is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    per: Span,
}

/// A text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateError(String);

impl fmt::Display for RateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a rate like \"30/1m\"", self.0)
    }
}

impl std::error::Error for RateError {}

impl Rate {
    /// So many in so many seconds; at least one in at least one.
    #[must_use]
    pub const fn per_secs(count: u32, secs: u64) -> Self {
        Self {
            count: if count == 0 { 1 } else { count },
            per: Span::from_secs(if secs == 0 { 1 } else { secs }),
        }
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The time in which they come back.
    #[must_use]
    pub const fn per(self) -> Duration {
        self.per.get()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.per)
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let parsed = || {
            let (count, per) = text.split_once('/')?;
            let rate = Self {
                count: count.trim().parse().ok()?,
                per: per.trim().parse().ok()?,
            };
            (rate.count > 0 && !rate.per().is_zero()).then_some(rate)
        };
        parsed().ok_or_else(|| RateError(text.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_back_as_they_are_written() {
        let rate: Rate = "30/1m".parse().unwrap();
        assert_eq!((rate.count(), rate.per()), (30, Duration::from_secs(60)));
        assert_eq!(rate.to_string().parse(), Ok(rate));
        for bad in ["", "30", "30/", "/1m", "0/1m", "30/0s", "-1/1m", "30/m"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}

//! CAMARA's `PhoneNumber`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An E.164 number with `+` and 5 to 15 digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct PhoneNumber(String);

/// The text is no such number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an E.164 number is '+' and 5 to 15 digits, the first not 0: +14085551000")]
pub(super) struct BadPhoneNumber;

impl PhoneNumber {
    /// As it is written.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn fits(text: &str) -> bool {
        // webrtc-registration.yaml, PhoneNumber: ^\+[1-9][0-9]{4,14}$
        text.strip_prefix('+').is_some_and(|digits| {
            (5..=15).contains(&digits.len())
                && digits.bytes().all(|b| b.is_ascii_digit())
                && !digits.starts_with('0')
        })
    }
}

impl FromStr for PhoneNumber {
    type Err = BadPhoneNumber;

    fn from_str(text: &str) -> Result<Self, BadPhoneNumber> {
        if Self::fits(text) { Ok(Self(text.to_owned())) } else { Err(BadPhoneNumber) }
    }
}

impl TryFrom<String> for PhoneNumber {
    type Error = BadPhoneNumber;

    fn try_from(text: String) -> Result<Self, BadPhoneNumber> {
        text.parse()
    }
}

impl From<PhoneNumber> for String {
    fn from(number: PhoneNumber) -> Self {
        number.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_exact_and_in_international_form() {
        for good in ["+12345", "+14085550001", "+123456789012345"] {
            assert_eq!(good.parse::<PhoneNumber>().unwrap().as_str(), good);
        }
        for bad in
            ["", "+", "+1234", "+01234567", "+1234567890123456", "14085550001", "+1408*", "*", "+1408 5"]
        {
            assert_eq!(bad.parse::<PhoneNumber>(), Err(BadPhoneNumber), "{bad}");
        }
    }
}

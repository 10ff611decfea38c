//! What a Secret holds, on its way into a rendered object: shown by no log, no error and no status.

use std::fmt;

/// A value of a Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Confidential(Vec<u8>);

impl Confidential {
    /// Takes a value.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The value without the end of line that editors and `echo` leave; `None`: it is no text.
    pub fn reveal(&self) -> Option<&str> {
        let text = str::from_utf8(&self.0).ok()?;
        Some(text.trim_end_matches(['\r', '\n']))
    }
}

impl fmt::Debug for Confidential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Confidential")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_not_shown_by_accident() {
        let value = Confidential::new(b"password\n".to_vec());
        assert_eq!(format!("{value:?}"), "Confidential");
        assert_eq!(value.reveal(), Some("password"));
        assert_eq!(Confidential::new(vec![0xff]).reveal(), None);
    }
}

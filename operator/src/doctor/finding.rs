//! One thing that was looked at, and how it is. Pure.

use std::fmt::Write as _;

use serde::Serialize;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Mark {
    Right,
    Wrong,
    /// Neither, but good to know.
    Note,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub mark: Mark,
    /// What was looked at: a file, an object.
    pub subject: String,
    pub message: String,
    /// What to do. Empty: nothing, or the message says it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Finding {
    /// All is well.
    pub fn right(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Mark::Right, subject, message)
    }

    /// Somebody has to act.
    pub fn wrong(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Mark::Wrong, subject, message)
    }

    /// Good to know.
    pub fn note(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Mark::Note, subject, message)
    }

    /// The same with what to do.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    fn new(mark: Mark, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            mark,
            subject: subject.into(),
            message: message.into(),
            remedy: String::new(),
        }
    }
}

/// For people.
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let mark = match finding.mark {
            Mark::Right => '✓',
            Mark::Wrong => '✗',
            Mark::Note => '·',
        };
        let _ = writeln!(text, "{mark} {}: {}", finding.subject, finding.message);
        if !finding.remedy.is_empty() {
            let _ = writeln!(text, "  → {}", finding.remedy);
        }
    }
    let wrong = findings
        .iter()
        .filter(|finding| finding.mark == Mark::Wrong)
        .count();
    let _ = match wrong {
        0 => writeln!(text, "Nothing is wrong."),
        1 => writeln!(text, "1 thing is wrong."),
        _ => writeln!(text, "{wrong} things are wrong."),
    };
    text
}

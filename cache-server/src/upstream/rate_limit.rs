//! What an upstream says about how much may be asked of it. Pure.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::clock::Moment;

/// Where a 429 does not say how long to wait.
const DEFAULT_PAUSE: Duration = Duration::from_secs(15);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// Nobody may silence an upstream for longer with one answer.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// How long an answer wants the upstream to be left alone.
pub(super) fn pause(status: StatusCode, headers: &HeaderMap, now: Moment) -> Option<Duration> {
    let said = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| wait(text.trim(), now));
    let pause = match status.as_u16() {
        429 => said.unwrap_or(DEFAULT_PAUSE),
        503 => said?,
        _ => return None,
    };
    Some(pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
}

/// Seconds, or a date.
fn wait(text: &str, now: Moment) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(
        Moment(date.timestamp().as_millisecond())
            .since(now)
            .unwrap_or_default(),
    )
}

/// The number in `100;w=21600`, as Docker Hub writes limits.
pub(super) fn count(headers: &HeaderMap, name: &str) -> Option<i64> {
    let text = headers.get(name)?.to_str().ok()?;
    text.split(';').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_within_bounds() {
        let now = Moment(784_111_777_000);
        let check = |status: u16, text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            let pause = pause(StatusCode::from_u16(status).unwrap(), &headers, now);
            pause.map(|pause| pause.as_secs())
        };
        assert_eq!(check(429, "120"), Some(120));
        assert_eq!(check(503, "0"), Some(1));
        assert_eq!(check(429, "999999999"), Some(3600));
        assert_eq!(check(429, "Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(check(429, "Sun, 06 Nov 1994 08:40:00 GMT"), Some(1));
        assert_eq!(check(429, "soon"), Some(15));
        assert_eq!(check(503, "soon"), None);
        assert_eq!(check(500, "5"), None);
    }

    #[test]
    fn the_hubs_limits_are_read() {
        let mut headers = HeaderMap::new();
        headers.insert("ratelimit-limit", "100;w=21600".parse().unwrap());
        headers.insert("ratelimit-remaining", "soon".parse().unwrap());
        assert_eq!(count(&headers, "ratelimit-limit"), Some(100));
        assert_eq!(count(&headers, "ratelimit-remaining"), None);
    }
}

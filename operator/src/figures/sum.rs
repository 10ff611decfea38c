//! What the servers of one cache say together. Pure.

use std::collections::BTreeMap;

use crds::figures::Figures;

/// Hosts of upstreams, and why nothing can be had of those that are away.
pub type Upstreams = BTreeMap<String, Option<String>>;

/// All that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub usage: Usage,
    pub upstreams: Upstreams,
}

/// How much a cache is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests for manifests and blobs in the last hour.
    pub requests: u64,
    /// Those of them that the cache answered.
    pub hits: u64,
    /// Bytes that the fullest server stores.
    pub used: u64,
    /// Bytes that it may store.
    pub maximum: u64,
}

impl Usage {
    /// In percent. `None`: there were no requests.
    pub fn hit_ratio(&self) -> Option<u64> {
        percent(self.hits, self.requests)
    }

    /// Whether people learn nothing from the other one that this one does not say.
    pub(super) fn is_near(&self, other: &Self) -> bool {
        let close = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => one.abs_diff(other) <= 1,
            (one, other) => one == other,
        };
        let fullness = |usage: &Self| percent(usage.used, usage.maximum);
        close(self.hit_ratio(), other.hit_ratio())
            && close(fullness(self), fullness(other))
            && self.maximum == other.maximum
    }
}

fn percent(part: u64, whole: u64) -> Option<u64> {
    let rounded =
        (u128::from(part) * 200 + u128::from(whole)).checked_div(u128::from(whole) * 2)?;
    u64::try_from(rounded).ok()
}

/// `None`: no server answered.
pub(super) fn sum(answers: &[Figures]) -> Option<Summary> {
    let fullness = |one: &&Figures| percent(one.used, one.maximum);
    let fullest = answers.iter().max_by_key(fullness)?;
    let usage = Usage {
        requests: answers.iter().map(|one| one.requests).sum(),
        hits: answers.iter().map(|one| one.hits).sum(),
        used: fullest.used,
        maximum: fullest.maximum,
    };
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for upstream in answers.iter().flat_map(|one| &one.upstreams) {
        let reasons = reasons.entry(&upstream.host).or_default();
        reasons.extend(upstream.away.as_deref());
    }
    let upstreams = reasons.into_iter().map(|(host, reasons)| {
        let reason = reasons.first().map(|reason| {
            if reasons.len() == answers.len() {
                (*reason).to_owned()
            } else {
                format!(
                    "for {} of {} replicas: {reason}",
                    reasons.len(),
                    answers.len()
                )
            }
        });
        (host.to_owned(), reason)
    });
    Some(Summary {
        usage,
        upstreams: upstreams.collect(),
    })
}

#[cfg(test)]
mod tests {
    use crds::figures::UpstreamFigures;

    use super::*;

    fn figures(hits: u64, used: u64, away: Option<&str>) -> Figures {
        Figures {
            requests: 100,
            hits,
            used,
            maximum: 1000,
            upstreams: vec![UpstreamFigures {
                host: "quay.io".to_owned(),
                away: away.map(str::to_owned),
            }],
        }
    }

    #[test]
    fn requests_add_up_and_the_fullest_server_counts() {
        let summary = sum(&[figures(90, 100, None), figures(50, 900, None)]).unwrap();
        assert_eq!(summary.usage.hit_ratio(), Some(70));
        assert_eq!((summary.usage.used, summary.usage.maximum), (900, 1000));
        assert_eq!(sum(&[]), None);
        assert_eq!(Usage::default().hit_ratio(), None);
    }

    #[test]
    fn an_upstream_is_away_if_a_server_says_so() {
        let reason = |answers: &[Figures]| sum(answers).unwrap().upstreams["quay.io"].clone();
        let (well, away) = (figures(0, 0, None), figures(0, 0, Some("timeout")));
        assert_eq!(reason(&[well.clone(), well.clone()]), None);
        assert_eq!(
            reason(&[well, away.clone()]).as_deref(),
            Some("for 1 of 2 replicas: timeout")
        );
        assert_eq!(reason(&[away.clone(), away]).as_deref(), Some("timeout"));
    }

    #[test]
    fn usage_moves_by_more_than_a_hundredth() {
        let usage = |hits, used| sum(&[figures(hits, used, None)]).unwrap().usage;
        assert!(usage(90, 500).is_near(&usage(91, 510)));
        assert!(!usage(90, 500).is_near(&usage(92, 500)));
        assert!(!usage(90, 500).is_near(&usage(90, 520)));
        let none = Usage {
            requests: 0,
            ..usage(0, 500)
        };
        assert!(!none.is_near(&usage(0, 500)));
        let larger = Usage {
            maximum: 2000,
            used: 1000,
            ..usage(90, 500)
        };
        assert!(!larger.is_near(&usage(90, 500)));
    }
}

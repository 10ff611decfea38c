//! Who a cloud says the cache is: signs in, keeps what that gave, and renews it before it ends.
//!
//! Each provider is requests and answers, made and read without effects, and one walk through them.

mod acr;
mod aws_keys;
mod ecr;
mod gar;
mod session;
mod signature;
mod surroundings;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use crds::policy;

pub use surroundings::Surroundings;

use super::credentials::Secret;
use super::files::Files;
use crate::clock::Moment;

pub(super) use session::Session;
pub(super) use wire::Wire;

/// A cloud's way to sign in.
pub(super) struct Provider(Way);

enum Way {
    Ecr(ecr::Ecr),
    Gar(gar::Gar),
    Acr(acr::Acr),
}

/// What a sign-in gave.
pub(super) struct SignedIn {
    secret: Secret,
    /// From the answer on.
    lifetime: Duration,
}

/// What an identity is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) upstream: &'a policy::Upstream,
    pub(super) files: &'a Files,
    pub(super) surroundings: &'a Surroundings,
}

impl Provider {
    /// Errors say what is missing, and nothing of what is there.
    pub(super) fn new(identity: &policy::Identity, setting: Setting<'_>) -> Result<Self, String> {
        Ok(Self(match identity.provider {
            policy::Provider::Ecr => Way::Ecr(ecr::Ecr::new(identity, setting)?),
            policy::Provider::Gar => Way::Gar(gar::Gar::new(identity, setting)?),
            policy::Provider::Acr => Way::Acr(acr::Acr::new(identity, setting)?),
        }))
    }

    /// For messages.
    fn name(&self) -> &'static str {
        match &self.0 {
            Way::Ecr(_) => "Ecr",
            Way::Gar(_) => "Gar",
            Way::Acr(_) => "Acr",
        }
    }

    async fn sign_in(&self, wire: &Wire, now: Moment) -> Result<SignedIn, Arc<str>> {
        match &self.0 {
            Way::Ecr(ecr) => ecr.sign_in(wire, now).await,
            Way::Gar(gar) => gar.sign_in(wire, now).await,
            Way::Acr(acr) => acr.sign_in(wire, now).await,
        }
        .map_err(Arc::from)
    }
}

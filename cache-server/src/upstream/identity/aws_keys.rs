//! Where AWS' keys come from: a file, a role that the pod's token opens, or the agent on the node.

use std::path::{Path, PathBuf};

use crds::policy;
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use serde::Deserialize;

use super::wire::{self, Call, Wire};
use super::{Setting, ecr::Place};

/// What requests to AWS are signed with.
pub(super) struct Keys {
    pub(super) access: String,
    pub(super) secret: String,
    pub(super) session: Option<String>,
}

/// Where they come from.
pub(super) enum Source {
    Here(Keys),
    /// `AssumeRoleWithWebIdentity`.
    Role {
        authority: Url,
        role: String,
        token_file: PathBuf,
    },
    /// EKS pod identity, or a task's role in ECS.
    Agent {
        url: Url,
        token_file: Option<PathBuf>,
    },
}

/// Addresses that agents have: those that AWS' own programs take without TLS.
const AGENTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

impl Source {
    pub(super) fn new(
        identity: &policy::Identity,
        setting: Setting<'_>,
        place: &Place,
    ) -> Result<Self, String> {
        if let Some(path) = &identity.keys_file {
            let content = setting.files.get(path);
            return content.and_then(parse_file).map(Self::Here).ok_or_else(|| {
                format!(
                    "{} must have one aws_access_key_id and aws_secret_access_key",
                    path.display()
                )
            });
        }
        let said = |value: &Option<String>, name| {
            let around = setting.surroundings.get(name).map(str::to_owned);
            value.clone().or(around)
        };
        let token_file = identity.token_file.clone().or_else(|| {
            let around = setting.surroundings.get("AWS_WEB_IDENTITY_TOKEN_FILE");
            around.map(PathBuf::from)
        });
        let role = said(&identity.role, "AWS_ROLE_ARN");
        if let (Some(role), Some(token_file)) = (role, token_file) {
            let authority = match &identity.authority {
                Some(authority) => wire::safe_url(&authority.to_string()),
                None => wire::safe_url(&place.authority()),
            };
            return Ok(Self::Role {
                authority: authority.map_err(|reason| format!("authority: {reason}"))?,
                role,
                token_file,
            });
        }
        let agent = setting
            .surroundings
            .get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
            .ok_or(
                "there is nothing to sign in with: write role and tokenFile, or keysFile, or give the pod a role",
            )?;
        Ok(Self::Agent {
            url: agent_url(agent)?,
            token_file: setting
                .surroundings
                .get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
                .map(PathBuf::from),
        })
    }

    pub(super) async fn keys(&self, wire: &Wire) -> Result<Keys, String> {
        match self {
            Self::Here(keys) => Ok(Keys {
                access: keys.access.clone(),
                secret: keys.secret.clone(),
                session: keys.session.clone(),
            }),
            Self::Role {
                authority,
                role,
                token_file,
            } => {
                let token = wire::token(token_file).await?;
                let call = role_call(authority.clone(), role, &token);
                parse_role(&wire.send(call).await?)
            }
            Self::Agent { url, token_file } => {
                let call = agent_call(url.clone(), token_file.as_deref()).await?;
                parse_agent(&wire.send(call).await?)
            }
        }
    }
}

fn agent_url(text: &str) -> Result<Url, String> {
    let fault = "AWS_CONTAINER_CREDENTIALS_FULL_URI must lead to https, to this machine or to an agent of AWS";
    let url = Url::parse(text).map_err(|_| fault)?;
    let is_agent =
        url.scheme() == "http" && url.host_str().is_some_and(|host| AGENTS.contains(&host));
    if is_agent {
        return Ok(url);
    }
    wire::safe_url(text).map_err(|_| fault.to_owned())
}

fn role_call(authority: Url, role: &str, token: &str) -> Call {
    Call::form(
        authority,
        &[
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleSessionName", "larder"),
            ("RoleArn", role),
            ("WebIdentityToken", token),
        ],
    )
}

async fn agent_call(url: Url, token_file: Option<&Path>) -> Result<Call, String> {
    let mut call = Call::get(url);
    call.headers
        .insert(ACCEPT, HeaderValue::from_static("application/json"));
    match token_file {
        Some(path) => call.secret(AUTHORIZATION, &wire::token(path).await?),
        None => Ok(call),
    }
}

/// The answer of the security token service, which is XML. Keys have no character that XML escapes.
fn parse_role(answer: &[u8]) -> Result<Keys, String> {
    let text = std::str::from_utf8(answer).unwrap_or_default();
    let value = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (value, _) = rest.split_once(&format!("</{name}>"))?;
        (!value.is_empty() && !value.contains(['<', '&'])).then(|| value.trim().to_owned())
    };
    Some(())
        .and_then(|()| {
            Some(Keys {
                access: value("AccessKeyId")?,
                secret: value("SecretAccessKey")?,
                session: Some(value("SessionToken")?),
            })
        })
        .ok_or_else(|| "the answer for the role has no keys".to_owned())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentAnswer {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

fn parse_agent(answer: &[u8]) -> Result<Keys, String> {
    let answer: AgentAnswer =
        serde_json::from_slice(answer).map_err(|_| "the agent's answer has no keys".to_owned())?;
    Ok(Keys {
        access: answer.access_key_id,
        secret: answer.secret_access_key,
        session: answer.token,
    })
}

/// The form of AWS' own file of credentials, with one profile.
fn parse_file(content: &[u8]) -> Option<Keys> {
    let text = std::str::from_utf8(content).ok()?;
    let value = |name: &str| {
        let mut values = text.lines().filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        });
        let value = values.next()?;
        (!value.is_empty() && values.next().is_none()).then_some(value)
    };
    Some(Keys {
        access: value("aws_access_key_id")?,
        secret: value("aws_secret_access_key")?,
        session: value("aws_session_token"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_asked_for_with_the_pods_token() {
        let url = Url::parse("https://sts.eu-west-1.amazonaws.com/").unwrap();
        let call = role_call(url, "arn:aws:iam::1:role/a b", "t.o+k");
        assert_eq!(
            call.body,
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=larder&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fa+b&WebIdentityToken=t.o%2Bk"
        );
        let answer = "<R><Credentials><SecretAccessKey>s/+=</SecretAccessKey><SessionToken>t</SessionToken><AccessKeyId>a</AccessKeyId></Credentials></R>";
        let keys = parse_role(answer.as_bytes()).unwrap();
        assert_eq!(
            (keys.access, keys.secret, keys.session),
            ("a".into(), "s/+=".into(), Some("t".into()))
        );
        assert!(parse_role(b"<AccessKeyId>a</AccessKeyId>").is_err());
    }

    #[test]
    fn a_file_has_one_pair_of_keys() {
        let keys =
            parse_file(b"[default]\naws_access_key_id = a\naws_secret_access_key=s=\n").unwrap();
        assert_eq!(
            (keys.access, keys.secret, keys.session),
            ("a".into(), "s=".into(), None)
        );
        assert!(parse_file(b"aws_access_key_id = a\n").is_none());
        let twice = "aws_access_key_id=a\naws_secret_access_key=s\n".repeat(2);
        assert!(parse_file(twice.as_bytes()).is_none());
    }

    #[test]
    fn an_agent_is_on_this_machine_or_at_an_address_of_aws() {
        for text in [
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://127.0.0.1:9/x",
            "https://agent.example/x",
        ] {
            assert!(agent_url(text).is_ok(), "{text}");
        }
        for text in ["http://169.254.169.254/", "http://agent.example/", "x"] {
            assert!(agent_url(text).is_err(), "{text}");
        }
    }
}

//! Stands between the API client and the network.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::header::ACCEPT;
use http::{Method, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as HttpBody, Bytes};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

use super::Memory;
use super::target::{Query, Target};

/// Makes a client remember.
#[derive(Debug, Clone)]
pub struct MemoryLayer(pub Memory);

impl<S> Layer<S> for MemoryLayer {
    type Service = Remembering<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Remembering {
            memory: self.0.clone(),
            inner,
        }
    }
}

/// A client that remembers.
#[derive(Debug, Clone)]
pub struct Remembering<S> {
    memory: Memory,
    inner: S,
}

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl<S, B> Service<Request<Body>> for Remembering<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.method() == Method::GET {
            if let Some(answer) = remembered(&self.memory, &request) {
                return Box::pin(async { Ok(answer) });
            }
            let sent = self.inner.call(in_latest_version(request));
            return Box::pin(async { sent.await.map_err(Into::into).map(boxed) });
        }
        let (memory, method) = (self.memory.clone(), request.method().clone());
        let path = request.uri().path().to_owned();
        let sent = self.inner.call(request);
        Box::pin(async move {
            let answer = sent.await.map_err(Into::<BoxError>::into)?;
            let written = answer.status().is_success();
            match Target::parse(&path) {
                Some(target) if written && memory.known(&target).is_some() => {
                    let (parts, body) = answer.into_parts();
                    let text = body.collect().await.map_err(Into::<BoxError>::into)?;
                    let text = text.to_bytes();
                    note(&memory, &method, &target, &text);
                    let body = Full::new(text).map_err(|never| match never {});
                    Ok(Response::from_parts(parts, body.boxed_unsync()))
                }
                _ => Ok(boxed(answer)),
            }
        })
    }
}

fn boxed<B>(answer: Response<B>) -> Answer
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    answer.map(|body| body.map_err(Into::into).boxed_unsync())
}

fn remembered(memory: &Memory, request: &Request<Body>) -> Option<Answer> {
    let uri = request.uri();
    let query = Query::parse(uri.query()?)?;
    let target = Target::parse(uri.path()).filter(|target| target.subresource.is_none())?;
    if !query.any_version {
        return None;
    }
    let accepted = request.headers().get(ACCEPT);
    let bare = accepted
        .and_then(|types| types.to_str().ok())
        .is_some_and(|types| types.contains("as=PartialObjectMetadata"));
    let body = match target.name {
        Some(name) => memory.get(&target, name, bare)?,
        None => memory.list(&target, &query.labels, bare)?,
    };
    let body = body.map_err(|never| match never {});
    Some(Response::new(body.boxed_unsync()))
}

/// An object that is not known may have come to be a moment ago: the API server's own cache may not know it either.
fn in_latest_version(mut request: Request<Body>) -> Request<Body> {
    let one = Target::parse(request.uri().path()).is_some_and(|target| target.name.is_some());
    let query = request.uri().query().and_then(Query::parse);
    if one && query.is_some_and(|query| query.any_version) {
        let path = request.uri().path().to_owned();
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = path.parse().ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

fn note(memory: &Memory, method: &Method, target: &Target<'_>, answer: &[u8]) {
    match (target.name, target.subresource) {
        // It may linger for a while; until it is gone, readers see for themselves.
        (Some(name), None) if *method == Method::DELETE => memory.forget(target, name),
        (_, None | Some("status")) => memory.note(target, answer),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(uri: &str) -> String {
        let request = Request::get(uri).body(Body::empty());
        let request = request.expect("the URI is one");
        in_latest_version(request).uri().to_string()
    }

    #[test]
    fn object_that_is_not_known_is_read_in_its_latest_version() {
        let pod = "/api/v1/namespaces/a/pods/b";
        // The client begins its queries with an ampersand.
        for query in ["?&resourceVersion=0", "?resourceVersion=0"] {
            assert_eq!(sent(&format!("{pod}{query}")), pod);
        }
        for other in [
            "/api/v1/namespaces/a/pods?&resourceVersion=0&resourceVersionMatch=NotOlderThan",
            "/api/v1/namespaces/a/pods/b?&resourceVersion=7",
        ] {
            assert_eq!(sent(other), other);
        }
    }
}

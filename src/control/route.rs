//! From a method, a path and a body to a [`Request`], or to a refusal with its HTTP status. Pure.

use super::message::{AddBody, MemberRefBody, ReplaceBody, Request, http_status};
use crate::array::{RebuildControl, ScrubStart};
use crate::error::{Error, ErrorKind};
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;

type Parse = fn(&[u8]) -> Result<Request, Error>;

struct Route {
    methods: &'static [Method],
    path: &'static str,
    body: &'static str,
    parse: Parse,
}

const ROUTES: [Route; 12] = [
    Route { methods: &[Method::GET], path: "/v1/status", body: "", parse: |_| Ok(Request::Status) },
    Route { methods: &[Method::GET], path: "/v1/version", body: "", parse: |_| Ok(Request::Version) },
    Route {
        methods: &[Method::POST],
        path: "/v1/members",
        body: r#" {"path":..., "force":false}"#,
        parse: |b| json::<AddBody>(b).map(Request::Add),
    },
    Route {
        methods: &[Method::POST],
        path: "/v1/members/fail",
        body: r#" {"member":...}"#,
        parse: |b| json::<MemberRefBody>(b).map(|m| Request::Fail(m.member)),
    },
    Route {
        methods: &[Method::POST],
        path: "/v1/members/replace",
        body: r#" {"old":..., "new":..., "force":false}"#,
        parse: |b| json::<ReplaceBody>(b).map(Request::Replace),
    },
    Route {
        methods: &[Method::POST, Method::DELETE],
        path: "/v1/members/remove",
        body: r#" {"member":...}"#,
        parse: |b| json::<MemberRefBody>(b).map(|m| Request::Remove(m.member)),
    },
    Route {
        methods: &[Method::POST, Method::PATCH],
        path: "/v1/rebuild",
        body: r#" {"max_rate_bytes_per_s":0, "paused":false}"#,
        parse: |b| control(b).map(Request::Rebuild),
    },
    Route { methods: &[Method::GET], path: "/v1/scrub", body: "", parse: |_| Ok(Request::Scrub) },
    Route {
        methods: &[Method::POST],
        path: "/v1/scrub",
        body: r#" {"mode":"repair", "max_rate_bytes_per_s":0}"#,
        parse: |b| json::<ScrubStart>(b).map(Request::StartScrub),
    },
    Route {
        methods: &[Method::PATCH],
        path: "/v1/scrub",
        body: r#" {"max_rate_bytes_per_s":0, "paused":false}"#,
        parse: |b| control(b).map(Request::ControlScrub),
    },
    Route { methods: &[Method::DELETE], path: "/v1/scrub", body: "", parse: |_| Ok(Request::CancelScrub) },
    Route { methods: &[Method::POST], path: "/v1/stop", body: "", parse: |_| Ok(Request::Stop) },
];

/// Why a request was not understood.
#[derive(Debug)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// The error for the body.
    pub error: Error,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = StatusCode::from_u16(http_status(error.kind()));
        Self { status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error }
    }
}

/// Whether this path takes this method; cheap, so that it is asked before a body is read.
pub fn check(method: &Method, path: &str) -> Result<(), Refusal> {
    find(method, path).map(|_| ())
}

/// The request they mean.
pub fn parse(method: &Method, path: &str, body: &[u8]) -> Result<Request, Refusal> {
    Ok((find(method, path)?.parse)(body)?)
}

fn find(method: &Method, path: &str) -> Result<&'static Route, Refusal> {
    let mut of_path = ROUTES.iter().filter(|r| r.path == path).peekable();
    if of_path.peek().is_none() {
        let shown: String = path.chars().take(100).collect();
        let error = Error::new(ErrorKind::NotFound, format!("there is no {shown} here")).hint(listing());
        return Err(Refusal { status: StatusCode::NOT_FOUND, error });
    }
    let mut takes = Vec::new();
    for route in of_path {
        if route.methods.contains(method) {
            return Ok(route);
        }
        takes.extend(route.methods.iter().map(Method::as_str));
    }
    let what = format!("{path} takes {}", takes.join(" or "));
    let error = Error::new(ErrorKind::InvalidInput, what).hint(listing());
    Err(Refusal { status: StatusCode::METHOD_NOT_ALLOWED, error })
}

fn listing() -> String {
    let lines: Vec<_> = ROUTES
        .iter()
        .map(|r| {
            let method = r.methods.first().map_or("", Method::as_str);
            format!("{method} {}{}", r.path, r.body)
        })
        .collect();
    format!("paths: {}", lines.join(", "))
}

fn control(body: &[u8]) -> Result<RebuildControl, Error> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        max_rate_bytes_per_s: Option<u64>,
        paused: Option<bool>,
    }
    let Body { max_rate_bytes_per_s, paused } = json(body)?;
    Ok(RebuildControl { max_rate_bytes_per_s, paused })
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|e| {
        Error::new(ErrorKind::InvalidInput, format!("the body is not what this path takes: {e}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::MemberRef;
    use crate::stripe::ScrubMode;
    use crate::units::Slot;
    use proptest::prelude::*;

    #[test]
    fn every_path_parses_to_its_request() {
        let fail = parse(&Method::POST, "/v1/members/fail", br#"{"member":"3"}"#).unwrap();
        assert_eq!(fail, Request::Fail(MemberRef::Slot(Slot(3))));
        let add = parse(&Method::POST, "/v1/members", br#"{"path":"/x"}"#).unwrap();
        assert_eq!(add, Request::Add(AddBody { path: "/x".into(), force: false }));
        let body = br#"{"old":"/a","new":"/b","force":true}"#;
        let replace = parse(&Method::POST, "/v1/members/replace", body).unwrap();
        let old = MemberRef::Path("/a".into());
        assert_eq!(replace, Request::Replace(ReplaceBody { old, new: "/b".into(), force: true }));
        for method in [Method::POST, Method::DELETE] {
            let remove = parse(&method, "/v1/members/remove", br#"{"member":"0"}"#).unwrap();
            assert_eq!(remove, Request::Remove(MemberRef::Slot(Slot(0))));
        }
        for method in [Method::POST, Method::PATCH] {
            let rate = parse(&method, "/v1/rebuild", br#"{"paused":true}"#).unwrap();
            let change = RebuildControl { max_rate_bytes_per_s: None, paused: Some(true) };
            assert_eq!(rate, Request::Rebuild(change));
        }
        let scrub = |method, body: &str| parse(&method, "/v1/scrub", body.as_bytes()).unwrap();
        assert_eq!(scrub(Method::GET, ""), Request::Scrub);
        assert_eq!(scrub(Method::POST, "{}"), Request::StartScrub(ScrubStart::default()));
        let start = ScrubStart { mode: ScrubMode::Check, max_rate_bytes_per_s: Some(7) };
        let body = r#"{"mode":"check","max_rate_bytes_per_s":7}"#;
        assert_eq!(scrub(Method::POST, body), Request::StartScrub(start));
        let change = RebuildControl { max_rate_bytes_per_s: None, paused: Some(true) };
        assert_eq!(scrub(Method::PATCH, r#"{"paused":true}"#), Request::ControlScrub(change));
        assert_eq!(scrub(Method::DELETE, ""), Request::CancelScrub);
    }

    #[test]
    fn what_is_not_understood_is_refused_with_the_fitting_status() {
        let status = |m: Method, p: &str, b: &str| parse(&m, p, b.as_bytes()).unwrap_err().status.as_u16();
        assert_eq!(status(Method::GET, "/v2/status", ""), 404);
        assert_eq!(status(Method::POST, "/v1/status", ""), 405);
        assert_eq!(status(Method::GET, "/v1/stop", ""), 405);
        assert_eq!(status(Method::POST, "/v1/members/fail", ""), 400);
        assert_eq!(status(Method::POST, "/v1/members/fail", r#"{"member":""}"#), 400);
        assert_eq!(status(Method::POST, "/v1/members", r#"{"path":"/x","forse":true}"#), 400);
        assert_eq!(status(Method::PUT, "/v1/scrub", ""), 405);
        assert_eq!(status(Method::POST, "/v1/scrub", r#"{"mode":"mend"}"#), 400);
        assert_eq!(status(Method::PATCH, "/v1/rebuild", r#"{"max_rate_bytes_per_s":-1}"#), 400);
        let e = parse(&Method::GET, "/", b"").unwrap_err().error;
        assert!(ROUTES.iter().all(|r| e.next_step().unwrap().contains(r.path)), "{e:?}");
    }

    proptest! {
        #[test]
        fn no_body_is_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200), at in 0..ROUTES.len()) {
            let route = &ROUTES[at];
            let _ = parse(&route.methods[0], route.path, &body);
        }
    }
}

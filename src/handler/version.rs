//! `version`: the build of this service, and of the client that was released with it.

use super::body::{Body, FixedBody};
use super::{Failure, Request, Service};
use crate::build::BuildInfo;
use crate::domain::Kind;
use crate::seal::Format;
use crate::wire::Operation;
use serde_json::json;

/// Answers with what [`body`] says.
pub(super) fn version(service: &Service, request: Request) -> Result<Body, Failure> {
    request.fields(service)?.finish()?;

    Ok(Body::Fixed(service.version.clone()))
}

/// Returns `{service: {name, version, commit, built_at}, client: {version, commit, built_at},
/// shard, supports: {kinds, operations, formats}}`.
pub fn body(build: &BuildInfo, shard: &str) -> FixedBody {
    let kinds: Vec<_> = Kind::all().map(Kind::as_str).collect();
    let operations = Operation::ALL.map(Operation::name);
    let formats = [Format::One, Format::Two].map(Format::number);

    // Service and client are one program, so they have the same build.
    FixedBody::new(json!({
        "service": {
            "name": build.name,
            "version": build.version,
            "commit": build.commit,
            "built_at": build.built_at,
        },
        "client": { "version": build.version, "commit": build.commit, "built_at": build.built_at },
        "shard": shard,
        "supports": {
            "kinds": kinds,
            "operations": operations,
            "formats": formats,
        },
    }))
}

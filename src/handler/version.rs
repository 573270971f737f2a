//! `version`: what runs here, and the client that was released with it.

use super::{Failure, Request, Service};
use crate::wire::Fields;
use serde_json::{Value, json};

/// Answers `{service: {name, version, commit, built_at}, client: {version, commit, built_at}, shard}`.
pub(super) fn version(service: &Service, request: Request) -> Result<Value, Failure> {
    Fields::of(request.body)?.finish()?;
    let build = &service.build;
    // Service and client are one program, so they are of one build.
    Ok(json!({
        "service": {
            "name": build.name, "version": build.version, "commit": build.commit, "built_at": build.built_at,
        },
        "client": { "version": build.version, "commit": build.commit, "built_at": build.built_at },
        "shard": service.shard,
    }))
}

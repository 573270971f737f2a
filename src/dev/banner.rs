//! What `dev` prints when the platform is ready.

use super::ports::{USUAL_NATS_PORT, USUAL_POSTGRES_PORT};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// Says where the platform is, and what to type next. `description` is `dev.json`.
pub(super) fn banner(program: &Path, state: &Path, description: &Value) -> String {
    let addresses = addresses(description);
    let data = data(state, description);
    let url = description["nats_url"].as_str().unwrap_or_default();
    let shards = description["shards"].as_array();
    let last = shards.and_then(|shards| shards.last()?["id"].as_str());
    let last = last.unwrap_or("a");
    let program = program.display();
    let state = state.display();

    format!(
        "
Ready:

{addresses}
In another terminal, as alice:

   . {state}/alice.env
   {program} put instrument US0378331005 --type stock --ticker AAPL --tag tech
   {program} list
   {program} get instrument US0378331005 --shard {last}
   {program} version

with the nats CLI:

   . {state}/alice.env
   nats --server {url} --user gateway --password \"$GOFAVORITES_PASSWORD\" \\
     req favorites.v1.list '{{}}' -H \"Authorization:Bearer $GOFAVORITES_TOKEN\"

as the operator:

   . {state}/operator.env
   {program} health
   {program} maintain --config {state}/maintain.toml --once

and for the platform itself, in this directory or below it:

   {program} dev status
   {program} dev logs worker-a-0
   {program} dev --help

Everything about it is in {state}/dev.json. {data}Ctrl-C or `dev stop` stops it; the data stays."
    )
}

/// Returns a line for each server with its address, and says which usual port was taken.
fn addresses(description: &Value) -> String {
    let mut lines = String::new();
    let mut next_nats_port = USUAL_NATS_PORT;

    for process in description["processes"].as_array().into_iter().flatten() {
        let (Some(name), Some(address)) = (process["name"].as_str(), process["address"].as_str())
        else {
            continue;
        };
        let usual = match name {
            "hub" => None,
            "postgres" => Some(USUAL_POSTGRES_PORT),
            _ => {
                next_nats_port += 1;
                Some(next_nats_port - 1)
            }
        };
        let moved = usual
            .filter(|port| !address.ends_with(&format!(":{port}")))
            .map(|port| format!("  (port {port} was taken)"));

        // Writing to a text cannot fail.
        let _ = writeln!(
            lines,
            "   {name:<10} {address}{}",
            moved.unwrap_or_default()
        );
    }

    lines
}

/// Says where Postgres keeps its data, if that is not below the state.
fn data(state: &Path, description: &Value) -> String {
    let data = description["servers"]["postgres"]["data"].as_str();

    data.filter(|data| !Path::new(data).starts_with(state))
        .map(|data| {
            format!(
                "Started by root, Postgres runs as the user nobody, and its data is in {data}.\n"
            )
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_server_has_its_address_and_a_port_that_was_taken_is_named() {
        let description = json!({"nats_url": "nats://127.0.0.1:4222", "processes": [
            {"name": "hub", "address": "nats://127.0.0.1:31000"},
            {"name": "leaf-a", "address": "nats://127.0.0.1:4222"},
            {"name": "leaf-b", "address": "nats://127.0.0.1:32000"},
            {"name": "postgres", "address": "127.0.0.1:33000"},
            {"name": "auth", "address": null},
        ], "servers": {"postgres": {"data": "/elsewhere/data"}}});

        let text = banner(Path::new("/bin/x"), Path::new("/s/.dev"), &description);

        for line in [
            "   hub        nats://127.0.0.1:31000\n",
            "   leaf-a     nats://127.0.0.1:4222\n",
            "   leaf-b     nats://127.0.0.1:32000  (port 4223 was taken)\n",
            "   postgres   127.0.0.1:33000  (port 5432 was taken)\n",
            "   . /s/.dev/operator.env\n",
            "its data is in /elsewhere/data.",
        ] {
            assert!(text.contains(line), "{line:?} is missing in {text}");
        }
        assert!(!text.contains("auth  "), "{text}");
    }
}

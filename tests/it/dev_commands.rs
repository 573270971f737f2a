//! The commands around `gofavorites dev`: they find the platform from any directory below it, say
//! what runs and what they did, and say the same where no platform runs.

use crate::harness::{kept_directory, shared};
use gofavorites::dev::fetch::servers;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_gofavorites");

/// How long the platform may take to be ready.
const START_TIMEOUT: Duration = Duration::from_secs(180);

/// What each command answers where no platform runs.
const NO_PLATFORM: &str = "no platform runs here (in ";

/// A platform with a hub, started in `home` without an option for its state, and used from a
/// directory below.
struct Project {
    process: Child,
    home: PathBuf,
}

impl Project {
    fn start() -> Self {
        let home = kept_directory();
        fs::create_dir_all(home.join("src/deep")).expect("made");
        fs::create_dir_all(home.join(".dev")).expect("made");
        let out = fs::File::create(home.join("out")).expect("a file");

        let process = Command::new(PROGRAM)
            .args(["dev", "--topology", "leaf"])
            .current_dir(&home)
            .env_remove("GOFAVORITES_STATE")
            .stdout(out)
            .stdin(Stdio::null())
            .spawn()
            .expect("started");
        let mut project = Self { process, home };

        let end = Instant::now() + START_TIMEOUT;
        while !project.printed().contains("Ctrl-C") {
            let ended = project.process.try_wait().expect("a status");
            assert!(ended.is_none(), "dev ended: {}", project.printed());
            assert!(Instant::now() < end, "not ready: {}", project.printed());
            std::thread::sleep(Duration::from_millis(50));
        }
        project
    }

    /// What `dev` itself printed.
    fn printed(&self) -> String {
        fs::read_to_string(self.home.join("out")).expect("a file")
    }

    fn state(&self) -> PathBuf {
        self.home.join(".dev")
    }

    /// Runs a script of the shell in the directory below.
    fn shell(&self, script: &str) -> Output {
        // The platform's own text has the path of the program already.
        let script = format!("gofavorites() {{ {PROGRAM} \"$@\"; }}\n{script}");

        Command::new("sh")
            .args(["-c", &script])
            .current_dir(self.home.join("src/deep"))
            .env_remove("GOFAVORITES_STATE")
            .stdin(Stdio::null())
            .output()
            .expect("ran")
    }

    /// Runs a script that must succeed, and returns its standard output.
    #[track_caller]
    fn succeeds(&self, script: &str) -> String {
        let output = self.shell(script);

        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {error}");
        String::from_utf8(output.stdout).expect("a text")
    }

    /// Runs a script that must fail, and returns its standard error.
    #[track_caller]
    fn fails(&self, script: &str) -> String {
        let output = self.shell(script);

        assert!(!output.status.success(), "{script}");
        String::from_utf8(output.stderr).expect("a text")
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[track_caller]
fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is missing in {text}");
}

fn the_banner_has_addresses_and_absolute_paths(project: &Project) {
    let banner = project.printed();
    let state = project.state().display().to_string();
    let description = fs::read(project.state().join("dev.json")).expect("dev.json");
    let description: Value = serde_json::from_slice(&description).expect("JSON");
    let hub = description["servers"]["hub"]["nats_url"].as_str();

    assert_contains(&banner, &format!(". {state}/alice.env"));
    assert_contains(&banner, &format!(". {state}/operator.env"));
    assert_contains(&banner, &format!("hub        {}", hub.expect("a hub")));
    assert_contains(
        &banner,
        "as the hub, and as a leaf for each of the shards a, b",
    );
    for server in ["leaf-a", "leaf-b", "postgres"] {
        assert_contains(&banner, &format!("   {server}"));
    }
}

fn what_runs_is_shown(project: &Project) {
    let table = project.succeeds("gofavorites dev status");
    let json = project.succeeds("gofavorites dev status --json");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let processes = json["processes"].as_array().expect("processes");

    let names: Vec<&str> = processes
        .iter()
        .filter_map(|process| process["name"].as_str())
        .collect();
    let servers = ["hub", "leaf-a", "leaf-b", "postgres", "auth"];
    let workers = ["worker-a-0", "worker-a-1", "worker-b-0", "worker-b-1"];
    assert_eq!(names, [&servers[..], &workers, &["maintain"]].concat());
    for process in processes {
        assert_eq!(process["state"], "running", "{process}");
        assert_contains(&table, process["name"].as_str().expect("a name"));
    }
    assert_eq!(json["pid"], project.process.id());

    // What a completion script asks for.
    let proposed = project.succeeds(
        "GOFAVORITES_COMPLETE=bash _CLAP_COMPLETE_INDEX=3 gofavorites -- gofavorites dev restart worker-b",
    );
    assert_contains(&proposed, "worker-b-0");
    assert_contains(&proposed, "worker-b-1");

    // The name that `dev` prints is the one that discovery shows.
    let health = project.succeeds(". ../../.dev/operator.env; gofavorites health --json");
    assert_contains(&health, "\"worker-a-0\"");
}

fn logs_and_the_database_are_at_hand(project: &Project) {
    let of_auth = project.succeeds("gofavorites dev logs auth");
    let of_all = project.succeeds("gofavorites dev logs --lines 1");
    let rows = project.succeeds("gofavorites dev psql b -- --csv --command 'select 6 * 7 as x'");
    let url = project.succeeds("gofavorites dev psql --url");

    assert_contains(&of_auth, "STAND-IN");
    assert_contains(&of_all, "worker-b-1 | ");
    assert_contains(&of_all, "leaf-a     | ");
    assert_eq!(rows, "x\n42\n");
    assert!(url.ends_with("/shard_a\n"), "{url}");
    let error = project.fails("gofavorites dev psql c");
    assert_contains(&error, "the shards are: a, b");
}

fn anybody_can_be_a_user(project: &Project) {
    let list = "gofavorites list";
    project.succeeds(&format!("eval \"$(gofavorites dev env carol)\"; {list}"));

    let revoked = project.succeeds("gofavorites dev revoke --sub alice");
    assert_contains(
        &revoked,
        "revoked the tokens of alice that were issued until ",
    );
    assert_contains(&revoked, &format!("$({PROGRAM} dev token --sub alice)"));

    // The command that it prints works at once.
    let (_, next) = revoked.split_once("a new one: ").expect("a command");
    let error = project.fails(&format!(". ../../.dev/alice.env; {list}"));
    assert_contains(&error, "unauthenticated");
    let next = next.trim();
    project.succeeds(&format!(". ../../.dev/alice.env; {next}; {list}"));
}

fn many_owners_are_written_at_once(project: &Project) {
    let written = project.succeeds("gofavorites dev fill --owners 20 --items 120 --bytes 50");
    assert_contains(&written, "wrote 20 owners with 2420 records in ");
    assert_contains(&written, " records/s; 0 there before");

    // Once more goes on where it ended.
    let more = project.succeeds("gofavorites dev fill --owners 21 --items 120 --bytes 50");
    assert_contains(&more, "wrote 1 owner with 121 records in ");
    assert_contains(&more, "; 20 there before");

    let used = project.succeeds(
        "eval \"$(gofavorites dev env fill-7)\"; gofavorites usage --json; gofavorites get text 119",
    );
    assert_contains(&used, "120");
    assert_contains(&used, "filled by dev fill");

    let tools = "--config ../../.dev/worker-a-0.toml";
    project.succeeds(&format!("gofavorites replay --everyone {tools}"));
    let verified = project.succeeds(&format!("gofavorites verify --json {tools}"));
    let verified: Value = serde_json::from_str(&verified).expect("JSON");
    let counts = &verified["counts"];
    assert_eq!(counts["differ"], 0, "{verified}");
    assert_eq!(counts["unclear"], 0, "{verified}");
    let equal = counts["equal"].as_u64().expect("a number");
    assert!(equal >= 21, "{verified}");
}

/// Fills 5,000 owners, ends a replay with `kill -9` while it hosts them, and runs it again. Interrupts a
/// `verify`, and goes on with it.
fn every_tool_begins_and_ends_with_many_owners(project: &Project) {
    let written = project.succeeds("gofavorites dev fill --owners 5000 --items 1 --seed many");
    assert_contains(&written, "wrote 5000 owners with 10000 records in ");

    let tools = "--config ../../.dev/worker-b-0.toml";
    let psql = |statement: &str| {
        let psql = "gofavorites dev psql b -- --tuples-only --no-align --quiet --command";
        format!("{psql} '{statement}'")
    };
    let hosted = psql("select count(*) from owner where complete_to is not null");
    // The program itself, because `$!` of a function of the shell is a subshell.
    project.succeeds(&format!(
        "{PROGRAM} replay --everyone {tools} & replay=$!
         until [ \"$({hosted})\" -ge 100 ] || ! kill -0 $replay; do :; done
         kill -9 $replay || true"
    ));
    // Who was ready, and the transaction that wrote the row.
    project.succeeds(&psql(
        "create table ready as select owner_key, owner.xmin::text as written_by from owner \
         where complete_to is not null",
    ));
    let rebuilt = project.succeeds(&format!("gofavorites replay --everyone {tools}"));
    let written_again = project.succeeds(&psql(
        "select count(*) from ready join owner using (owner_key) where owner.xmin::text <> written_by",
    ));
    project.succeeds(&psql("drop table ready"));
    let all: u64 = project.succeeds(&hosted).trim().parse().expect("a number");
    assert!(all >= 5_021, "{all}");
    assert_contains(&rebuilt, &format!("{all} owners rebuilt, 0 failed"));
    assert_eq!(written_again.trim(), "0", "what was ready was passed over");

    // The first page is reported at once.
    let interrupted = project.succeeds(&format!(
        "{PROGRAM} verify {tools} >compared 2>said & verify=$!
         until grep -q 'owners: 3200 of' said || ! kill -0 $verify; do sleep 0.01; done
         kill -TERM $verify
         ! wait $verify && cat compared said"
    ));
    let (_, after) = interrupted.split_once("go on with ").expect("a hint");
    let rest = project.succeeds(&format!("gofavorites verify {} {tools}", after.trim()));
    let compared = owners_compared(&interrupted) + owners_compared(&rest);
    assert_eq!(compared, all, "{interrupted}{rest}");
    let verified = project.succeeds(&format!("gofavorites verify {tools}"));
    let equal = format!("{all} owners compared: {all} equal, 0 differ, 0 unclear");
    assert_contains(&verified, &equal);

    let maintained =
        project.succeeds("gofavorites maintain --config ../../.dev/maintain.toml --once");
    assert_contains(&maintained, " owners: purged 0 deletions of 0 owners");
}

/// Returns how many owners `verify` says it has compared.
fn owners_compared(printed: &str) -> u64 {
    let (before, _) = printed.split_once(" owners compared: ").expect("counts");
    let number = before.rsplit(' ').next().expect("a number");

    number.parse().expect("a number")
}

fn parts_are_restarted_together(project: &Project) {
    let restarted = project.succeeds("gofavorites dev restart worker-b auth");
    assert_eq!(
        restarted,
        "auth runs again\nworker-b-0 runs again\nworker-b-1 runs again\n"
    );

    let error = project.fails("gofavorites dev restart worker-a-0 nobody");
    assert_contains(&error, "there is no part nobody; the parts are: hub, ");
    let printed = project.printed();
    assert!(!printed.contains("nobody"), "told twice: {printed}");
}

/// Goal: every command around the platform works from a directory below, says what it did, and
/// stops the platform at last.
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_around_a_platform_find_it_and_say_what_they_did() {
    let _permit = shared().await;
    let mut project = Project::start();

    the_banner_has_addresses_and_absolute_paths(&project);
    what_runs_is_shown(&project);
    logs_and_the_database_are_at_hand(&project);
    anybody_can_be_a_user(&project);
    many_owners_are_written_at_once(&project);
    every_tool_begins_and_ends_with_many_owners(&project);
    parts_are_restarted_together(&project);

    let stopped = project.succeeds("gofavorites dev stop");
    assert_contains(&stopped, "the data stays in ");
    assert!(project.process.wait().expect("ended").success());
    let error = project.fails("gofavorites dev status");
    assert_contains(&error, NO_PLATFORM);
    project.succeeds("gofavorites dev logs auth");
}

fn dev(state: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .arg("dev")
        .args(arguments)
        .env("GOFAVORITES_STATE", state)
        .stdin(Stdio::null())
        .output()
        .expect("ran")
}

#[test]
fn where_no_platform_runs_every_command_says_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("none");
    let commands: [&[&str]; 9] = [
        &["token", "--sub", "alice"],
        &["revoke", "--sub", "alice"],
        &["restart", "nats"],
        &["status"],
        &["logs"],
        &["psql"],
        &["env", "alice"],
        &["fill", "--owners", "1", "--items", "1"],
        &["stop"],
    ];

    for command in commands {
        let output = dev(&state, command);

        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{command:?}");
        assert_contains(&error, NO_PLATFORM);
        assert_contains(&error, "--state or GOFAVORITES_STATE");
    }
    assert!(!state.exists(), "nothing was made");
}

#[test]
fn nonsense_is_refused_and_an_error_of_a_file_has_its_path() {
    let state = tempfile::tempdir().expect("a directory");
    let state = state.path();
    let token = ["token", "--sub", "carol"];
    let refused: [(&[&str], &str); 5] = [
        (&["token", "--sub", ""], "must be a name"),
        (&["revoke", "--sub", ""], "must be a name"),
        (
            &[&token[..], &["--scope", "fav"]].concat(),
            "favorites:read",
        ),
        (&[&token[..], &["--ttl", "0s"]].concat(), "1 second"),
        (&["restart"], "NAME"),
    ];

    for (arguments, reason) in refused {
        let output = dev(state, arguments);

        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}");
        assert_contains(&error, reason);
    }

    fs::create_dir(state.join("secrets.json")).expect("made");
    let error = dev(state, &token).stderr;
    let file = state.join("secrets.json").display().to_string();
    assert_contains(&String::from_utf8_lossy(&error), &file);
}

#[test]
fn a_new_checkout_uses_the_servers_in_the_cache() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = servers(manifest, |_| {}).expect("the servers");
    let release = found
        .postgres_bin
        .ancestors()
        .nth(3)
        .expect("the directory of the release");
    let cache = tempfile::tempdir().expect("a directory");
    let own = cache.path().join("gofavorites");
    fs::create_dir(&own).expect("made");
    let name = release.file_name().expect("a name");
    symlink(release, own.join(name)).expect("linked");
    let checkout = tempfile::tempdir().expect("a directory");

    let output = Command::new(PROGRAM)
        .args(["dev", "servers"])
        .current_dir(checkout.path())
        .env("XDG_CACHE_HOME", cache.path())
        .output()
        .expect("ran");

    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert_contains(&out, &own.display().to_string());
    assert!(!checkout.path().join(".servers").exists());
}

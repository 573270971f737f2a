//! What is wrong with Postgres, for a person.

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgConnectOptions;
use std::io;

/// Returns the database as `host:port/name`, without user and password.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let database = options
        .get_database()
        .unwrap_or_else(|| options.get_username());
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };

    format!("{host}:{}/{database}", options.get_port())
}

/// Returns what is wrong, for a person. The library's text has the line of Postgres' own source.
pub(super) fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => describe_io(error),
        sqlx::Error::PoolTimedOut => "no connection in time".to_owned(),
        other => other.to_string(),
    }
}

fn describe_io(error: &io::Error) -> String {
    // The text of the operating system ends with its number of the error.
    match error.raw_os_error() {
        Some(_) => error.kind().to_string(),
        None => error.to_string(),
    }
}

/// Does the same as [`describe`] for a migration.
pub(super) fn describe_migration(error: &MigrateError) -> String {
    match error {
        MigrateError::Execute(error) => describe(error),
        MigrateError::ExecuteMigration(error, version) => {
            format!("migration {version}: {}", describe(error))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr as _;

    #[test]
    fn the_place_of_a_database_has_no_secret() {
        for (url, expected) in [
            ("postgres://u:hush@h:6543/d", "h:6543/d"),
            ("postgres://u:hush@h", "h:5432/u"),
            ("postgres://u:hush@h/d?options=-c%20x%3Dhush", "h:5432/d"),
            ("postgres:///d?host=/run/pg&user=u", "/run/pg:5432/d"),
        ] {
            let options = PgConnectOptions::from_str(url).expect("a URL");

            assert_eq!(place(&options), expected);
        }
    }

    #[test]
    fn an_error_says_what_a_person_can_use() {
        let refused = io::Error::from_raw_os_error(111);

        assert_eq!(
            describe(&sqlx::Error::Io(refused)),
            "connection refused",
            "without the number"
        );
        assert_eq!(
            describe(&sqlx::Error::PoolTimedOut),
            "no connection in time"
        );
    }
}

//! What a NATS server is to the others: which configuration of `nats/` it has, and what it is told in variables.

use super::secrets::Secrets;

/// The accounts and permissions as they are in `nats/`.
pub const ACCOUNTS_CONF: &str = include_str!("../../nats/accounts.conf");
/// Those of a leaf.
pub const LEAF_ACCOUNTS_CONF: &str = include_str!("../../nats/leaf-accounts.conf");
const SERVER_CONF: &str = include_str!("../../nats/server.conf");
const CLUSTER_CONF: &str = include_str!("../../nats/cluster.conf");
const HUB_CONF: &str = include_str!("../../nats/hub.conf");
const LEAF_CONF: &str = include_str!("../../nats/leaf.conf");

/// The hub's JetStream domain, as it is in `nats/hub.conf`.
pub const HUB_DOMAIN: &str = "hub";

/// What a server is to the others.
#[derive(Clone, Debug, Default)]
pub enum Role {
    /// The only one.
    #[default]
    Single,
    /// One of a cluster.
    Member {
        /// Its name.
        name: String,
        /// The port on which the others reach it.
        port: u16,
        /// The ports of all of them.
        all: Vec<u16>,
    },
    /// The one in the middle, with the bucket.
    Hub {
        /// The port on which leaves reach it.
        port: u16,
    },
    /// The server of one block.
    Leaf {
        /// Its name.
        name: String,
        /// The port on which the hub is reached.
        hub: u16,
    },
}

impl Role {
    /// The configuration: the file's name and its text.
    pub(super) fn configuration(&self) -> (&'static str, &'static str) {
        match self {
            Self::Single => ("server.conf", SERVER_CONF),
            Self::Member { .. } => ("cluster.conf", CLUSTER_CONF),
            Self::Hub { .. } => ("hub.conf", HUB_CONF),
            Self::Leaf { .. } => ("leaf.conf", LEAF_CONF),
        }
    }

    /// The accounts that the configuration includes: the file's name and its text.
    pub fn accounts(&self) -> (&'static str, &'static str) {
        match self {
            Self::Leaf { .. } => ("leaf-accounts.conf", LEAF_ACCOUNTS_CONF),
            _ => ("accounts.conf", ACCOUNTS_CONF),
        }
    }

    /// What the configuration names besides passwords. Values are quoted: the server reads them as it reads its files.
    pub(super) fn variables(&self, secrets: &Secrets) -> Vec<(&'static str, String)> {
        let url = |user: &str, port: &u16| {
            format!("\"nats://{user}:{}@127.0.0.1:{port}\"", secrets.nats(user))
        };
        let listen = |port: &u16| format!("\"127.0.0.1:{port}\"");
        match self {
            Self::Single => Vec::new(),
            Self::Member { name, port, all } => {
                let routes: Vec<_> = all.iter().map(|port| url("route", port)).collect();
                vec![
                    ("CLUSTER_NAME", name.clone()),
                    ("CLUSTER_LISTEN", listen(port)),
                    ("CLUSTER_ROUTES", format!("[{}]", routes.join(", "))),
                ]
            }
            Self::Hub { port } => vec![("LEAF_LISTEN", listen(port))],
            Self::Leaf { name, hub } => {
                vec![
                    ("LEAF_NAME", name.clone()),
                    ("HUB_TRUTH", url("leaf", hub)),
                    ("HUB_AUTH", url("leaf_auth", hub)),
                ]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_of_a_configuration_is_given() {
        let secrets = Secrets::generate().expect("secrets");
        let roles = [
            Role::Single,
            Role::Member {
                name: "n1".into(),
                port: 1,
                all: vec![1, 2, 3],
            },
            Role::Hub { port: 1 },
            Role::Leaf {
                name: "a".into(),
                hub: 1,
            },
        ];
        for role in roles {
            let mut given: Vec<String> = role
                .variables(&secrets)
                .into_iter()
                .map(|(name, _)| name.to_owned())
                .collect();
            given.extend(secrets.nats_variables().map(|(name, _)| name));
            for text in [role.configuration().1, role.accounts().1] {
                let code = text.lines().filter_map(|line| line.split('#').next());
                for named in code.flat_map(|line| line.split(": $").skip(1).collect::<Vec<_>>()) {
                    let name = named.split([',', ' ', '}']).next().unwrap_or_default();
                    assert!(given.iter().any(|one| one == name), "{role:?} names {name}");
                }
            }
        }
    }
}

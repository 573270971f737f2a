//! The role of a NATS server: its configuration in `nats/` and the variables of that configuration.

use super::secrets::Secrets;

/// The accounts and permissions in `nats/`.
pub const ACCOUNTS_CONF: &str = include_str!("../../nats/accounts.conf");
/// The accounts and permissions of a leaf.
pub const LEAF_ACCOUNTS_CONF: &str = include_str!("../../nats/leaf-accounts.conf");
/// TLS for clients.
pub(super) const TLS_CONF: &str = include_str!("../../nats/tls.conf");
const SERVER_CONF: &str = include_str!("../../nats/server.conf");
const CLUSTER_CONF: &str = include_str!("../../nats/cluster.conf");
const HUB_CONF: &str = include_str!("../../nats/hub.conf");
const HUB_CLUSTER_CONF: &str = include_str!("../../nats/hub-cluster.conf");
const LEAF_CONF: &str = include_str!("../../nats/leaf.conf");

/// The hub's JetStream domain, as in `nats/hub.conf` and `nats/hub-cluster.conf`.
pub const HUB_DOMAIN: &str = "hub";

/// The role of a NATS server among the servers of a platform.
#[derive(Clone, Debug, Default)]
pub enum Role {
    /// The only server.
    #[default]
    Single,
    /// A member of a cluster.
    Member {
        /// Its name.
        name: String,
        /// The port for the other members.
        port: u16,
        /// The ports of all members.
        all: Vec<u16>,
    },
    /// The server that holds the bucket and that leaves connect to.
    Hub {
        /// The port for leaves.
        port: u16,
    },
    /// One of the servers that hold the bucket together and that leaves connect to.
    HubMember {
        /// Its name.
        name: String,
        /// The port for leaves.
        leaf_port: u16,
        /// The port for the other members.
        port: u16,
        /// The ports of all members.
        all: Vec<u16>,
    },
    /// The server of one shard.
    Leaf {
        /// Its name.
        name: String,
        /// The ports for leaves of the hub's servers.
        hub: Vec<u16>,
    },
}

impl Role {
    /// The name and text of the configuration file.
    pub(super) fn configuration(&self) -> (&'static str, &'static str) {
        match self {
            Self::Single => ("server.conf", SERVER_CONF),
            Self::Member { .. } => ("cluster.conf", CLUSTER_CONF),
            Self::Hub { .. } => ("hub.conf", HUB_CONF),
            Self::HubMember { .. } => ("hub-cluster.conf", HUB_CLUSTER_CONF),
            Self::Leaf { .. } => ("leaf.conf", LEAF_CONF),
        }
    }

    /// The name and text of the file of accounts, which the configuration includes.
    pub fn accounts(&self) -> (&'static str, &'static str) {
        match self {
            Self::Leaf { .. } => ("leaf-accounts.conf", LEAF_ACCOUNTS_CONF),
            _ => ("accounts.conf", ACCOUNTS_CONF),
        }
    }

    /// Returns the variables of the configuration, except passwords. Values are quoted because the
    /// server parses them like text in its files.
    pub(super) fn variables(&self, secrets: &Secrets) -> Vec<(&'static str, String)> {
        let url = |user: &str, port: &u16| {
            format!("\"tls://{user}:{}@127.0.0.1:{port}\"", secrets.nats(user))
        };
        let urls = |user: &str, ports: &[u16]| {
            let all: Vec<_> = ports.iter().map(|port| url(user, port)).collect();
            format!("[{}]", all.join(", "))
        };
        let listen = |port: &u16| format!("\"127.0.0.1:{port}\"");
        let cluster = |name: &str, port: &u16, all: &[u16]| {
            vec![
                ("CLUSTER_NAME", name.to_owned()),
                ("CLUSTER_LISTEN", listen(port)),
                ("CLUSTER_ROUTES", urls("route", all)),
            ]
        };

        match self {
            Self::Single => Vec::new(),
            Self::Member { name, port, all } => cluster(name, port, all),
            Self::Hub { port } => vec![("LEAF_LISTEN", listen(port))],
            Self::HubMember {
                name,
                leaf_port,
                port,
                all,
            } => {
                let mut variables = cluster(name, port, all);
                variables.push(("LEAF_LISTEN", listen(leaf_port)));
                variables
            }
            Self::Leaf { name, hub } => vec![
                ("LEAF_NAME", name.clone()),
                ("HUB_TRUTH", urls("leaf", hub)),
                ("HUB_SERVICE", urls("leaf_service", hub)),
                ("HUB_AUTH", urls("leaf_auth", hub)),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_of_a_configuration_has_a_value() {
        let secrets = Secrets::generate().expect("secrets");
        let roles = [
            Role::Single,
            Role::Member {
                name: "n1".into(),
                port: 1,
                all: vec![1, 2, 3],
            },
            Role::Hub { port: 1 },
            Role::HubMember {
                name: "hub-1".into(),
                leaf_port: 4,
                port: 1,
                all: vec![1, 2, 3],
            },
            Role::Leaf {
                name: "a".into(),
                hub: vec![1],
            },
        ];

        for role in roles {
            let mut variables: Vec<String> = role
                .variables(&secrets)
                .into_iter()
                .map(|(name, _)| name.to_owned())
                .collect();
            variables.extend(secrets.nats_variables().map(|(name, _)| name));
            variables.extend(["TLS_CA", "TLS_CERT", "TLS_KEY"].map(str::to_owned));

            for text in [role.configuration().1, role.accounts().1] {
                let code = text.lines().filter_map(|line| line.split('#').next());
                for named in code.flat_map(|line| line.split(": $").skip(1).collect::<Vec<_>>()) {
                    let name = named.split([',', ' ', '}']).next().unwrap_or_default();
                    assert!(
                        variables.iter().any(|one| one == name),
                        "{role:?} names {name}"
                    );
                }
            }
        }
    }
}

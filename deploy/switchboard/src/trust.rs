//! Whom a process trusts and what it shows: everything that is made of files, read before a port is bound and again when
//! they change.

use switchboard_chassis::{
    Lifecycle,
    config::Mistakes,
    grpc::{Callers, Guard},
    tls::{ClientTls, ServerTls},
};

use crate::{
    Secrets,
    config::{Config, Role},
    scopes::SCOPES,
};

/// See the module.
#[derive(Clone, Default)]
pub struct Trust {
    /// The edge's certificate.
    pub(crate) edge: Option<ServerTls>,
    /// The services' certificate.
    pub(crate) grpc: Option<ServerTls>,
    /// Who may call the services.
    callers: Callers,
    /// For calls to services elsewhere.
    pub(crate) services: ClientTls,
    /// For the collector of traces.
    pub(crate) traces: ClientTls,
}

impl Trust {
    /// Reads what `roles` need.
    ///
    /// # Errors
    /// All mistakes at once, with their settings and files.
    pub fn of(config: &Config, roles: &[Role], lifecycle: &Lifecycle) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let mut trust = Self { services: services(config, lifecycle, &mut mistakes), ..Self::default() };
        if roles.contains(&Role::Edge) {
            trust.edge = noting(ServerTls::public(&config.edge.tls, lifecycle), &mut mistakes);
        }
        trust.grpc = noting(ServerTls::grpc(&config.grpc.tls, lifecycle), &mut mistakes);
        trust.callers = noting(Callers::new(&config.grpc.callers_file, lifecycle), &mut mistakes);
        trust.traces = collector(config, lifecycle, &mut mistakes);
        Mistakes::check(mistakes)?;
        Ok(trust)
    }

    /// Who may call the services of this process.
    pub(crate) fn guard(&self, secrets: &Secrets) -> Guard {
        Guard::new(secrets.grpc_token.clone(), self.callers.clone(), SCOPES)
    }
}

fn services(config: &Config, lifecycle: &Lifecycle, mistakes: &mut Vec<String>) -> ClientTls {
    let tls = ClientTls::new(&config.services.tls, lifecycle).and_then(|tls| {
        let uses_tls = config.services.lists().iter().any(|(_, list)| list.contains("https://"));
        if uses_tls { tls.check().map(|()| tls) } else { Ok(tls) }
    });
    noting(tls, mistakes)
}

fn collector(config: &Config, lifecycle: &Lifecycle, mistakes: &mut Vec<String>) -> ClientTls {
    let traces = &config.traces;
    let tls = ClientTls::trusting("traces.otlp_ca_file", &traces.otlp_ca_file, lifecycle)
        .and_then(|tls| if traces.is_tls() { tls.check().map(|()| tls) } else { Ok(tls) });
    noting(tls, mistakes)
}

fn noting<T: Default>(read: Result<T, String>, mistakes: &mut Vec<String>) -> T {
    read.unwrap_or_else(|mistake| {
        mistakes.push(mistake);
        T::default()
    })
}

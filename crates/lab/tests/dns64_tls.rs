//! The DNS64 of the real `plat` with resolvers over TLS (RFC 7858).

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use lab::dns64_fixture::Dns64Fixture;
use lab::installed::PATIENCE;
use lab::process::Daemon;
use lab::suite::Test;
use lab::topology::{SERVER, embedded};
use lab::traffic::dns::kind::AAAA;
use lab::traffic::dns::{Message, Upstream};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;

const TESTS: &[Test] = lab::tests![
    a_resolver_over_tls_proves_its_name_and_keeps_its_connection,
    a_resolver_with_another_name_is_not_asked,
    a_resolver_that_nobody_vouches_for_is_not_asked,
    unbound_is_an_upstream_over_tls,
];

const UNBOUND: &str = "/usr/sbin/unbound";
const SERVFAIL: u16 = 2;

fn main() {
    lab::suite::run_with_programs(TESTS, &[("unbound_is_an_upstream_over_tls", UNBOUND)])
}

fn a_resolver_over_tls_proves_its_name_and_keeps_its_connection() -> Result<()> {
    let names = Names::new("dns.example")?;
    let net = names.net("tls://198.51.100.2#dns.example")?;
    let upstream = names.upstream(&net)?;
    for number in 0..5 {
        let found = net.ask(&format!("host{number}.example"), AAAA)?;
        ensure!(found == [embedded(SERVER)], "{found:?}");
    }
    let (asked, connections) = (upstream.asked(), upstream.connections());
    ensure!((asked, connections) == (10, 1), "{asked} {connections}");
    Ok(())
}

fn a_resolver_with_another_name_is_not_asked() -> Result<()> {
    let names = Names::new("dns.example")?;
    let net = names.net("tls://198.51.100.2#other.example")?;
    let upstream = names.upstream(&net)?;
    let answer = net.query(&Message::query("x.example", AAAA))?;
    ensure!(answer.code() == SERVFAIL, "{answer:?}");
    ensure!(upstream.asked() == 0 && upstream.connections() > 0);
    Ok(())
}

fn a_resolver_that_nobody_vouches_for_is_not_asked() -> Result<()> {
    let names = Names::new("dns.example")?;
    let net = names.net("tls://198.51.100.2#dns.example")?;
    let upstream = Names::new("dns.example")?.upstream(&net)?;
    let answer = net.query(&Message::query("x.example", AAAA))?;
    ensure!(answer.code() == SERVFAIL, "{answer:?}");
    ensure!(upstream.asked() == 0 && upstream.connections() > 0);
    Ok(())
}

fn unbound_is_an_upstream_over_tls() -> Result<()> {
    let names = Names::new("dns.example")?;
    let net = names.net("tls://198.51.100.2:853#dns.example")?;
    let configuration = names.path("unbound.conf");
    let text = format!(
        "server:\n interface: 198.51.100.2@853\n tls-port: 853\n tls-service-key: \"{}\"\n \
         tls-service-pem: \"{}\"\n access-control: 0.0.0.0/0 allow\n username: \"\"\n \
         chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n do-daemonize: no\n \
         local-zone: \"example.\" static\n local-data: \"v4.example. 300 IN A 198.51.100.2\"\n\
         remote-control:\n control-enable: no\n",
        names.path("key.pem"),
        names.path("server.pem")
    );
    fs::write(&configuration, text)?;
    let flags = ["-d", "-c", &configuration];
    let unbound = Daemon::start(&net.topology().server, Path::new(UNBOUND), &flags)?;
    unbound
        .wait_for_line("start of service", PATIENCE)
        .with_context(|| unbound.log())?;
    let found = net.ask("v4.example", AAAA)?;
    ensure!(found == [embedded(SERVER)], "{found:?} {}", unbound.log());
    Ok(())
}

/// An authority of our own and a server's certificate, as files.
struct Names {
    directory: TempDir,
    config: Arc<ServerConfig>,
}

impl Names {
    fn new(server: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name);
        let (ca_key, key) = (KeyPair::generate()?, KeyPair::generate()?);
        let mut ca = CertificateParams::new(vec![])?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(path("ca.pem"), ca.self_signed(&ca_key)?.pem())?;
        let issuer = Issuer::new(ca, ca_key);
        let certificate =
            CertificateParams::new(vec![server.to_owned()])?.signed_by(&key, &issuer)?;
        fs::write(path("server.pem"), certificate.pem())?;
        fs::write(path("key.pem"), key.serialize_pem())?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)?;
        Ok(Self {
            directory,
            config: Arc::new(config),
        })
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// A `plat` that asks this resolver and believes the authority.
    fn net(&self, upstream: &str) -> Result<Dns64Fixture> {
        Dns64Fixture::with_upstreams(&[upstream], &["--dns64-ca", &self.path("ca.pem")])
    }

    /// A resolver with the certificate whose names have an IPv4 address.
    fn upstream(&self, net: &Dns64Fixture) -> Result<Upstream> {
        let address = (SERVER, 853).into();
        Upstream::over_tls(
            &net.topology().server,
            address,
            Arc::clone(&self.config),
            |asked| asked.v4_only(SERVER).into(),
        )
    }
}

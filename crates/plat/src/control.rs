//! What a running `plat` tells about itself (`plat status`, `plat sessions`).

use std::io;
use std::net::{Ipv6Addr, SocketAddrV4};

use nat64_host::SessionList;
use plat_host::StatusSource;
use serde::{Deserialize, Serialize};
use xlat_core::addr::Ipv6Prefix;
use xlat_host::daemon::control::Answer;

use crate::reload::{self, ReloadRequests};

/// Subscribers that `plat status` names.
const TOP: usize = 5;

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Reload,
    /// Who has an external port.
    Whose {
        external: SocketAddrV4,
    },
    Status {
        json: bool,
        /// As it is known, without measuring anything first.
        #[serde(default)]
        known: bool,
    },
    Sessions {
        json: bool,
        /// Only those of clients in this prefix.
        client: Option<String>,
    },
}

/// What answers come from.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) source: StatusSource,
    pub(crate) reload: ReloadRequests,
}

impl Control {
    /// Answers one request.
    pub(crate) async fn answer(self, request: Request, mut answer: Answer) -> io::Result<()> {
        match request {
            Request::Reload => match reload::ask(&self.reload).await {
                Ok(line) => answer.text(&format!("{line}\n")).await,
                Err(reason) => answer.refuse(&reason).await,
            },
            Request::Whose { external } => match self.whose(external) {
                Ok(line) => answer.text(&line).await,
                Err(reason) => answer.refuse(reason).await,
            },
            Request::Status { json, known } => {
                match known {
                    true => self.source.judge(),
                    false => drop(self.source.measure(true).await),
                }
                let status = self.source.status(TOP);
                match json {
                    true => answer.json(&status).await,
                    false => answer.text(&status.to_text()).await,
                }
            }
            Request::Sessions { json, client } => self.sessions(json, client, answer).await,
        }
    }

    /// The subscriber who has an external port.
    fn whose(&self, external: SocketAddrV4) -> Result<String, &'static str> {
        let nat = self.source.nat.as_ref().map(nat64_host::StatusSource::nat);
        let nat = nat.filter(|nat| nat.config().ports.deterministic);
        let nat = nat.ok_or("this plat runs without --deterministic: the session log knows")?;
        let subscriber = nat.subscriber_of(*external.ip(), external.port());
        let subscriber = subscriber.ok_or("nobody has that address and port")?;
        Ok(format!("{subscriber}\n"))
    }

    async fn sessions(
        self,
        json: bool,
        client: Option<String>,
        mut answer: Answer,
    ) -> io::Result<()> {
        let Some(nat) = &self.source.nat else {
            let line = "this plat keeps no sessions: it runs without --pool";
            return answer.refuse(line).await;
        };
        let wanted = match client.as_deref().map(client_prefix).transpose() {
            Ok(wanted) => wanted,
            Err(reason) => return answer.refuse(&reason).await,
        };
        // An answer without a line is an answer.
        answer.text("").await?;
        let mut list = SessionList::new(wanted, json);
        while let Some(page) = list.next_page(nat.nat())? {
            answer.text(&page).await?;
        }
        Ok(())
    }
}

/// An address or a prefix.
fn client_prefix(text: &str) -> Result<Ipv6Prefix, String> {
    let address = text.parse::<Ipv6Addr>().map(Ipv6Prefix::host);
    address
        .or_else(|_| text.parse::<Ipv6Prefix>())
        .map_err(|error| format!("--client {text}: {error}"))
}

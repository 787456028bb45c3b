//! The doors of a node for clients and operators: bound before anything is started, served once all is.

use std::{future::Future, net::SocketAddr, num::NonZeroUsize, sync::Arc};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::{RunError, context::Node, descriptors::Shares};
use crate::{
    config::{Config, Listen},
    http, resp,
};

/// The doors, bound. Who knocks waits.
pub(super) struct Doors {
    resp: resp::Server,
    http: TcpListener,
}

/// The doors, open.
pub(super) struct Served {
    pub(super) resp: JoinHandle<()>,
    pub(super) http: JoinHandle<()>,
    /// Told `true`, both close.
    pub(super) stop: watch::Sender<bool>,
    /// Where clients connect.
    pub(super) resp_address: SocketAddr,
    /// Where operators do.
    pub(super) http_address: SocketAddr,
}

impl Doors {
    /// Binds both, so that a busy address ends the node before it has touched anything.
    pub(super) async fn bind(listen: &Listen) -> Result<Self, RunError> {
        let failed = |key, address| {
            move |source| RunError::Listen {
                key,
                address,
                source,
            }
        };
        let resp = resp::Server::bind(listen.resp).map_err(failed("listen.resp", listen.resp))?;
        let http = TcpListener::bind(listen.http)
            .await
            .map_err(failed("listen.http", listen.http))?;
        Ok(Self { resp, http })
    }

    /// Opens both.
    pub(super) fn serve(
        self,
        config: &Config,
        shares: &Shares,
        node: &Node,
        metrics: PrometheusHandle,
    ) -> Result<Served, RunError> {
        let (stop, _) = watch::channel(false);
        let (resp_address, http_address) = (self.resp.local_addr()?, self.http.local_addr()?);
        let limits = resp::Limits {
            clients: shares.clients as usize,
            ..resp::Limits::from(&config.limits)
        };
        let levels = resp::Levels::from(&config.consistency);
        let door = resp::Door::new(node.clone(), limits, levels);
        let resp = tokio::spawn(self.resp.serve(door, stop.subscribe()));
        let bounds = http::Bounds {
            connections: NonZeroUsize::new(shares.operators.into()).unwrap_or(NonZeroUsize::MIN),
            ..http::Bounds::default()
        };
        let http = tokio::spawn(http::serve_within(
            bounds,
            self.http,
            Arc::new(node.clone()),
            metrics,
            stopped(&stop),
        ));
        Ok(Served {
            resp,
            http,
            stop,
            resp_address,
            http_address,
        })
    }
}

/// Resolves when the doors are told to close.
fn stopped(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stop = stop.subscribe();
    async move {
        // A sender that is gone means the same.
        let _ = stop.wait_for(|is_stopping| *is_stopping).await;
    }
}

//! `scheme: HTTPS`.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion};

use super::*;

/// Made for this test and used nowhere else: `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes
/// -subj /CN=nobody.test -days 1`. It names nobody who is asked here, nobody vouches for it, and it has expired.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBgTCCASegAwIBAgIUP9Wr/439q75qtEQoGly5DaECngAwCgYIKoZIzj0EAwIw
FjEUMBIGA1UEAwwLbm9ib2R5LnRlc3QwHhcNMjYxMTIwMTE1NDM3WhcNMjYxMTIx
MTE1NDM3WjAWMRQwEgYDVQQDDAtub2JvZHkudGVzdDBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABDZyCY/+WgEDQV2qx6IMd4uHwez4juHfTj7andKxWRWzel+6FG/+
w+Zh/bWyV71dXEtEtuh3VsclfS2ULdHlkUajUzBRMB0GA1UdDgQWBBRNjolFepEY
nDL641S3hvTd8L38VDAfBgNVHSMEGDAWgBRNjolFepEYnDL641S3hvTd8L38VDAP
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQCuQzHFS0iGg/IXgWwp
sW2O/T5I/1CNGC5KNf7iZwrqcAIgAOD79S3WoU4XztSB/X9fGssxC+IDZ8nkknah
8cwk0f8=
-----END CERTIFICATE-----";
const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgLhNOkMcDD6nGmfRp
qeVvOZ0+Le4M1hE08WpetcurkwuhRANCAAQ2cgmP/loBA0FdqseiDHeLh8Hs+I7h
304+2p3SsVkVs3pfuhRv/sPmYf21sle9XVxLRLbod1bHJX0tlC3R5ZFG
-----END PRIVATE KEY-----";

/// Answers one request with 200; tells the server name that the client asked for.
async fn server(version: &'static SupportedProtocolVersion) -> (SocketAddr, tokio::task::JoinHandle<Option<String>>) {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_protocol_versions(&[version]).unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let named = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        let _ = stream.shutdown().await;
        stream.get_ref().1.server_name().map(ToOwned::to_owned)
    });
    (address, named)
}

fn https(host: Option<&str>) -> ProbeAction {
    ProbeAction::Http { tls: true, host: host.map(ToOwned::to_owned), port: None, path: "/".to_owned(), headers: vec![] }
}

#[tokio::test]
async fn a_certificate_is_not_checked() {
    for (version, host, named) in [(&TLS13, None, None), (&TLS12, None, None), (&TLS13, Some("localhost"), Some("localhost"))] {
        let (address, server) = server(version).await;
        let answer = asked(https(host), address, LONG).await;
        assert_eq!(answer.verdict, Verdict::Success, "{answer:?}");
        assert_eq!(server.await.unwrap().as_deref(), named);
    }
}

#[tokio::test]
async fn what_does_not_speak_tls_is_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut plain, _) = listener.accept().await.unwrap();
        plain.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let silent = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
        drop(silent);
    });
    let answer = asked(https(None), address, LONG).await;
    assert_eq!(answer.verdict, Verdict::Failure);
    assert!(answer.message.starts_with(&format!("GET https://{address}/: TLS: ")), "{answer:?}");
    assert_eq!(asked(https(None), address, SHORT).await.verdict, Verdict::Failure);
}

//! Who asks: names, tokens, and to whom they are told.

use std::net::SocketAddr;

use hyper::Method;

use super::fake::{Fake, Reply, Seen, plain, store, with};
use super::*;
use crate::oci::digest;

/// `alice:wonder`.
const ALICE: &str = "Basic YWxpY2U6d29uZGVy";

/// Takes uploads as docker-registry does: somewhere with a query of its own, by an absolute URL or by a path.
fn take(address: SocketAddr, seen: &Seen, absolute: bool) -> Reply {
    let place = "/v2/team/p/blobs/uploads/7?_state=x";
    let origin = if absolute { format!("http://{address}") } else { String::new() };
    match (&seen.method, seen.path.as_str()) {
        (&Method::POST, "/v2/team/p/blobs/uploads/") => with(plain(202, ""), "location", &format!("{origin}{place}")),
        (&Method::PUT, path) if path == format!("{place}&digest={}", digest(&seen.body)) => plain(201, ""),
        (&Method::PUT, "/v2/team/p/manifests/1") => with(plain(201, ""), "docker-content-digest", &digest(&seen.body).to_string()),
        _ => plain(404, ""),
    }
}

fn challenge(address: SocketAddr, rights: &str) -> Reply {
    let text = format!("Bearer realm=\"http://{address}/token\",service=\"a registry\",scope=\"repository:team/p:{rights}\"");
    with(plain(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#), "www-authenticate", &text)
}

/// Tokens say what they allow, so that the test sees what was asked for.
fn token_registry(address: SocketAddr, seen: &Seen, artifact: &Artifact) -> Reply {
    if let Some(query) = seen.path.strip_prefix("/token?") {
        let who = if seen.authorization() == Some(ALICE) { "alice" } else { "anybody" };
        let rights = query.rsplit(':').next().unwrap();
        return match (who, rights, seen.authorization()) {
            ("anybody", _, Some(_)) | ("anybody", "pull,push", _) => plain(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#),
            _ => plain(200, format!(r#"{{"token":"{who}-{rights}","expires_in":60}}"#)),
        };
    }
    let reads = matches!(seen.method, Method::GET | Method::HEAD);
    let needs = if reads { "pull" } else { "pull,push" };
    match seen.authorization().and_then(|token| token.strip_prefix("Bearer ")?.split_once('-')) {
        Some((_, rights)) if rights == needs || rights == "pull,push" => {
            if reads && artifact.component.is_empty() {
                plain(404, "")
            } else if reads {
                store(artifact, seen)
            } else {
                take(address, seen, true)
            }
        }
        _ => challenge(address, needs),
    }
}

#[tokio::test]
async fn a_public_policy_is_pulled_with_a_token_for_anybody() {
    let made = artifact();
    let fake = Fake::new(move |address, seen| token_registry(address, seen, &made)).await;
    let pulled = pull(&reference(fake.address, "team/p:1")).await.unwrap();
    assert_eq!(pulled.component, artifact().component);
    let asked: Vec<_> = fake.lines().into_iter().filter(|line| line.contains("/token")).collect();
    assert_eq!(asked, ["GET /token?service=a%20registry&scope=repository:team/p:pull"], "one token serves all that follows");
}

#[tokio::test]
async fn to_push_more_is_asked_for_at_once_and_the_password_goes_where_tokens_are() {
    let nothing = Artifact::of_component(Bytes::new(), &[], &[]).unwrap();
    let fake = Fake::new(move |address, seen| token_registry(address, seen, &nothing)).await;
    let artifact = artifact();
    let pushed = client(alice()).push(&reference(fake.address, "team/p:1"), &artifact).await.unwrap();
    assert_eq!(pushed, artifact.digest());
    let seen = fake.seen();
    let tokens: Vec<_> = seen.iter().filter(|seen| seen.path.starts_with("/token")).collect();
    assert_eq!(
        tokens.iter().map(|seen| seen.line()).collect::<Vec<_>>(),
        ["GET /token?service=a%20registry&scope=repository:team/p:pull,push"]
    );
    assert_eq!(tokens[0].authorization(), Some(ALICE));
    let told = seen.iter().filter(|seen| !seen.path.starts_with("/token")).filter_map(Seen::authorization);
    assert!(told.clone().all(|token| token == "Bearer alice-pull,push") && told.count() > 0, "{seen:?}");
    let manifest = seen.last().unwrap();
    assert_eq!(manifest.line(), "PUT /v2/team/p/manifests/1");
    assert_eq!((manifest.content_type(), &manifest.body), (Some("application/vnd.oci.image.manifest.v1+json"), &artifact.manifest));
    let bodies: Vec<_> = seen.iter().filter(|seen| seen.path.contains("digest=")).map(|seen| seen.body.clone()).collect();
    assert_eq!(bodies, [artifact.component, artifact.config]);
}

#[tokio::test]
async fn who_may_not_push_is_told_what_to_do() {
    let nothing = Artifact::of_component(Bytes::new(), &[], &[]).unwrap();
    let fake = Fake::new(move |address, seen| token_registry(address, seen, &nothing)).await;
    let reference = reference(fake.address, "team/p:1");
    let nobody = said(client(Logins::Nobody).push(&reference, &artifact()).await);
    assert!(nobody.contains("does not let us push to team/p") && nobody.contains("docker login"), "{nobody}");
    let mallory = Logins::Given(Login::new("mallory", "guess").unwrap());
    let mallory = said(client(mallory).push(&reference, &artifact()).await);
    assert!(mallory.contains("we are \"mallory\" there") && !mallory.contains("guess"), "{mallory}");
}

#[tokio::test]
async fn what_is_there_is_not_uploaded_again() {
    let made = artifact();
    let fake = Fake::new(move |address, seen| match seen.method {
        Method::HEAD => store(&made, seen),
        _ => take(address, seen, false),
    });
    let fake = fake.await;
    client(Logins::Nobody).push(&reference(fake.address, "team/p:1"), &artifact()).await.unwrap();
    let changed: Vec<_> = fake.lines().into_iter().filter(|line| !line.starts_with("HEAD")).collect();
    assert_eq!(changed, ["PUT /v2/team/p/manifests/1"]);
    // By a path, too.
    let other = Artifact::of_component(Bytes::from_static(b"another"), &[], &[]).unwrap();
    client(Logins::Nobody).push(&reference(fake.address, "team/p:1"), &other).await.unwrap();
    assert!(fake.lines().iter().any(|line| line.starts_with("PUT /v2/team/p/blobs/uploads/7?_state=x&digest=sha256:")));
}

/// A push to a digest is a promise that the component is that one.
#[tokio::test]
async fn a_digest_that_is_not_the_artifacts_is_not_pushed() {
    let fake = Fake::new(|address, seen| take(address, seen, false)).await;
    let other = Artifact::of_component(Bytes::from_static(b"another"), &[], &[]).unwrap();
    let wrong = reference(fake.address, "team/p:1").pinned(other.digest());
    assert!(said(client(Logins::Nobody).push(&wrong, &artifact()).await).contains("what is to be pushed has the digest sha256:"));
    assert_eq!(fake.lines().len(), 0);
}

#[tokio::test]
async fn a_password_is_sent_where_it_is_wanted_and_not_twice_in_vain() {
    let made = artifact();
    let fake = Fake::new(move |_, seen| match seen.authorization() {
        Some(ALICE) => store(&made, seen),
        _ => with(plain(401, ""), "www-authenticate", "Basic realm=\"private\""),
    });
    let fake = fake.await;
    let reference = reference(fake.address, "team/p:1");
    client(alice()).pull(&reference, None).await.unwrap();
    assert!(said(pull(&reference).await).contains("log in by `docker login 127.0.0.1:"));
    let asked = fake.lines().len();
    let mallory = Logins::Given(Login::new("mallory", "guess").unwrap());
    assert!(said(client(mallory).pull(&reference, None).await).contains("is the password good?"));
    assert_eq!(fake.lines().len() - asked, 2, "without and with the password, once each");
}

/// A registry of this machine without TLS leads nobody out of it without TLS: by the place of its tokens, by a redirect, by an upload's
/// Location. The address stands for another host; that it is this one shows that nobody was there.
#[tokio::test]
async fn a_registry_without_tls_leads_out_of_this_machine_with_it_alone() {
    let elsewhere = Fake::new(|_, _| plain(200, r#"{"token":"t"}"#)).await;
    let away = format!("http://[::ffff:127.0.0.1]:{}", elsewhere.address.port());
    let fake = Fake::new(move |_, seen| match (&seen.method, seen.path.as_str()) {
        (_, path) if path.starts_with("/v2/team/tokens/") => {
            with(plain(401, ""), "www-authenticate", &format!("Bearer realm=\"{away}/token\",service=\"r\""))
        }
        (_, path) if path.starts_with("/v2/team/redirect/") => with(plain(307, ""), "location", &format!("{away}/store")),
        (&Method::POST, _) => with(plain(202, ""), "location", &format!("{away}/uploads/7")),
        _ => plain(404, ""),
    });
    let fake = fake.await;
    for (rest, words) in
        [("team/tokens:1", "it gives out tokens at http://[::ffff:127.0.0.1]"), ("team/redirect:1", "goes on at http://[::ffff:")]
    {
        let said = said(client(alice()).pull(&reference(fake.address, rest), None).await);
        assert!(said.contains(words) && said.contains("without TLS"), "{said}");
    }
    let said = said(client(alice()).push(&reference(fake.address, "team/uploads:1"), &artifact()).await);
    assert!(said.contains("goes on at http://[::ffff:127.0.0.1]") && said.contains("which is not followed"), "{said}");
    assert_eq!(elsewhere.lines().len(), 0);
}

/// By the form of distribution's "OAuth2 Token Authentication". The token of the login goes nowhere else.
#[tokio::test]
async fn an_identity_token_is_exchanged_for_a_token() {
    let made = artifact();
    let fake = Fake::new(move |address, seen| match (&seen.method, seen.path.as_str(), seen.authorization()) {
        (&Method::POST, "/token", None) if seen.body.ends_with(b"refresh_token=a%26b") => plain(200, r#"{"access_token":"alice"}"#),
        (&Method::POST, "/token", None) => plain(400, r#"{"error":"invalid_grant"}"#),
        (_, _, Some("Bearer alice")) => store(&made, seen),
        (_, path, None) if path.contains("/old/") => with(plain(401, ""), "www-authenticate", "Basic realm=\"old\""),
        _ => challenge(address, "pull"),
    });
    let fake = fake.await;
    let holder = |token: &str| client(Logins::Given(Login::of_identity_token(token)));
    let by_tag = reference(fake.address, "team/p:1");
    assert_eq!(holder("a&b").pull(&by_tag, None).await.unwrap().component, artifact().component);
    let seen = fake.seen();
    let asked: Vec<_> = seen.iter().filter(|seen| seen.path.contains("/token")).collect();
    let form = b"grant_type=refresh_token&service=a%20registry&client_id=pointsman&scope=repository:team/p:pull&refresh_token=a%26b";
    assert_eq!((asked.len(), asked[0].content_type()), (1, Some("application/x-www-form-urlencoded")));
    assert_eq!(asked[0].body, &form[..]);
    let expired = said(holder("expired").pull(&by_tag, None).await);
    assert!(
        expired.contains("400 Bad Request; we have an identity token from a login") && expired.contains("docker login 127."),
        "{expired}"
    );
    let basic = said(holder("a&b").pull(&reference(fake.address, "old/p:1"), None).await);
    assert!(basic.contains("it wants a password, and the login is an identity token"), "{basic}");
}

/// Blobs are often kept in a store of somebody else's, which learns nothing of who asks.
#[tokio::test]
async fn a_store_that_a_registry_sends_to_is_not_told_who_asks() {
    let made = artifact();
    let elsewhere = Fake::new(move |_, _| plain(200, made.component.clone())).await;
    let (made, address) = (artifact(), elsewhere.address);
    let fake = Fake::new(move |_, seen| match seen.authorization() {
        None => with(plain(401, ""), "www-authenticate", "Basic realm=\"private\""),
        Some(_) if seen.path.contains("blobs") => with(plain(307, ""), "location", &format!("http://{address}/store?signature=1")),
        Some(_) => store(&made, seen),
    });
    let fake = fake.await;
    let pulled = client(alice()).pull(&reference(fake.address, "team/p:1"), None).await.unwrap();
    assert_eq!(pulled.component, artifact().component);
    let seen = elsewhere.seen();
    assert_eq!(
        seen.iter().map(|seen| (seen.line(), seen.authorization())).collect::<Vec<_>>(),
        [("GET /store?signature=1".to_owned(), None)]
    );
}

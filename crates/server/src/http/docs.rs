//! `GET /docs`: the services of this engine, for people. Self-contained: nothing is loaded from elsewhere.

use std::fmt::Write;
use std::sync::Arc;

use samovar_core::config::{RouteSpec, ServiceSpec};
use samovar_core::version::Version;

/// The policy keeps the page to what it says here, whatever a description may hold.
const HEAD: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Services</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-bottom: 0; }
p { white-space: pre-line; margin: .5rem 0; }
code { font: .9rem/1.5 ui-monospace, monospace; }
table { border-spacing: 0; }
td { padding: 0 1.5rem 0 0; }
</style>
<h1>Services</h1>
"#;

/// What is told where there are none.
const NONE: &str = "<p>This engine serves no services. Models are listed by <code>POST /v2/repository/index</code>; \
                    a class with <code>@samovar.service</code> becomes a service.</p>\n";

/// The page.
pub(super) fn page(services: &[Arc<Version>]) -> String {
    let listed: Vec<_> =
        services.iter().filter_map(|version| Some((&*version.name, version.spec.service.as_ref()?))).collect();
    render(&listed)
}

fn render(services: &[(&str, &ServiceSpec)]) -> String {
    let mut html = String::from(HEAD);
    if services.is_empty() {
        html.push_str(NONE);
    }
    for (name, service) in services {
        section(&mut html, &escape(name), service);
    }
    html.push_str("</html>\n");
    html
}

fn section(html: &mut String, name: &str, service: &ServiceSpec) {
    _ = writeln!(html, "<h2>{name}</h2>");
    if !service.description.is_empty() {
        _ = writeln!(html, "<p>{}</p>", escape(&service.description));
    }
    _ = writeln!(html, "<p><a href=\"/{name}/docs\">docs</a> · <a href=\"/{name}/openapi.json\">openapi.json</a></p>");
    if !service.routes.is_empty() {
        _ = writeln!(html, "<table>\n{}</table>", service.routes.iter().map(row).collect::<String>());
    }
    for mount in service.mounts.iter().filter(|mount| mount.strip_prefix('/') != Some(name)) {
        let mount = escape(mount);
        _ = writeln!(html, "<p>mounted at <a href=\"{mount}\">{mount}</a></p>");
    }
    if !service.methods.is_empty() {
        let names: Vec<_> = service.methods.iter().map(|method| format!("{name}.{}", escape(&method.name))).collect();
        _ = writeln!(html, "<p>as models: <code>{}</code></p>", names.join(", "));
    }
}

fn row(route: &RouteSpec) -> String {
    let (methods, path) = (escape(&route.methods.join(", ")), escape(&route.path));
    format!("<tr><td><code>{methods}</code><td><code>{path}</code>\n")
}

/// `text` as it may stand in HTML, in an attribute too.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use samovar_core::config::MethodSpec;

    use super::*;

    fn service(description: &str) -> ServiceSpec {
        let route = |path: &str| RouteSpec { methods: vec!["POST".into()], path: path.into(), idempotent: false };
        ServiceSpec {
            routes: vec![route("/plates/recognize"), route("/plates/{id}")],
            mounts: vec!["/plates".into(), "/ui".into()],
            methods: vec![MethodSpec { name: "recognize".into(), inputs: vec![], outputs: vec![] }],
            description: description.into(),
        }
    }

    #[test]
    fn services_are_listed_with_their_links() {
        let html = render(&[("plates", &service("Reads number plates."))]);
        for part in [
            "<h2>plates</h2>",
            "Reads number plates.",
            "href=\"/plates/docs\"",
            "href=\"/plates/openapi.json\"",
            "<code>POST</code><td><code>/plates/recognize</code>",
            "mounted at <a href=\"/ui\">",
            "plates.recognize",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
        assert!(!html.contains("mounted at <a href=\"/plates\">"));
        assert!(render(&[]).contains("serves no services"));
    }

    #[test]
    fn what_a_service_says_of_itself_is_text() {
        let html = render(&[("plates", &service("<script>alert('\"&')</script>"))]);
        assert!(html.contains("&lt;script&gt;alert(&#39;&quot;&amp;&#39;)&lt;/script&gt;"));
        assert!(!html.contains("<script"));
    }
}

//! The program under test, as a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

/// Nothing here takes as long as this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A running `orders`.
pub(crate) struct Program {
    child: Child,
    pub(crate) base: String,
    pub(crate) client: Client,
    lines: Mutex<Lines>,
}

/// What the program has logged.
struct Lines {
    seen: Vec<Value>,
    coming: Receiver<String>,
}

/// Prepares the program with a clean environment.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orders"));
    command.env_clear().env("PORT", "0").stdin(Stdio::null());
    command
}

impl Program {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(database: &str) -> Self {
        Self::start_with(database, &[]).await
    }

    pub(crate) async fn start_with(database: &str, variables: &[(&str, &str)]) -> Self {
        let program = Self::launch(database, variables);
        program.wait_ready().await;
        program
    }

    /// Starts it and waits until it listens.
    pub(crate) fn launch(database: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = command()
            .env("ORDERS_DB_URL", database)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let stdout = child.stdout.take().expect("its output");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut program = Self {
            child,
            base: String::new(),
            client: Client::new(),
            lines: Mutex::new(Lines {
                seen: Vec::new(),
                coming: lines,
            }),
        };
        let line = program.wait_for_line("listening");
        let address = line["address"].as_str().expect("an address").to_owned();
        program.base = format!("http://{address}");
        program
    }

    /// Returns the first log line with this message, waiting for it if need be.
    pub(crate) fn wait_for_line(&self, message: &str) -> Value {
        self.wait_for(message, |line| line["message"] == message)
    }

    /// Waits for the line of the answer to the request of this id; the readiness probe's are lines of answers too.
    pub(crate) fn wait_for_answer(&self, request_id: &str) -> Value {
        self.wait_for(request_id, |line| {
            line["message"] == "answered" && line["request_id"] == request_id
        })
    }

    fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        let mut lines = self.lines.lock().expect("no panic before");
        if let Some(line) = lines.seen.iter().find(|line| wanted(line)) {
            return line.clone();
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = lines.coming.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no line `{what}` in {:?}", lines.seen));
            let line: Value = serde_json::from_str(&line).expect("a line of JSON");
            lines.seen.push(line.clone());
            if wanted(&line) {
                return line;
            }
        }
    }

    pub(crate) async fn wait_ready(&self) {
        self.wait_status("/health/ready", StatusCode::OK).await;
    }

    pub(crate) async fn wait_status(&self, path: &str, status: StatusCode) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let seen = self.client.get(self.url(path)).send().await;
            if seen.as_ref().is_ok_and(|seen| seen.status() == status) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{path} is {seen:?}, not {status}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client
            .get(self.url(path))
            .send()
            .await
            .expect("an answer")
    }

    /// Places an order, under a key if one is given.
    pub(crate) async fn place(&self, order: &Value, key: Option<&str>) -> Response {
        self.try_place(order, key).await.expect("an answer")
    }

    pub(crate) async fn try_place(
        &self,
        order: &Value,
        key: Option<&str>,
    ) -> Result<Response, reqwest::Error> {
        let mut request = self.client.post(self.url("/api/v1/orders")).json(order);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.send().await
    }

    pub(crate) async fn cancel(&self, id: &str, headers: &[(&str, &str)]) -> Response {
        let url = self.url(&format!("/api/v1/orders/{id}/cancel"));
        let mut request = self.client.post(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.expect("an answer")
    }

    /// Returns every order, page by page.
    pub(crate) async fn all(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut path = "/api/v1/orders?limit=100".to_owned();
        loop {
            let page: Value = self.get(&path).await.json().await.expect("a page");
            all.extend(page["items"].as_array().expect("orders").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/api/v1/orders?limit=100&cursor={cursor}"),
                None => return all,
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("a signal");
    }

    /// Stops it gracefully.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        assert!(self.wait().await.success());
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status;
            }
            assert!(Instant::now() < deadline, "the program does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An order that is valid.
pub(crate) fn order(customer: &str) -> Value {
    json!({
        "customer": customer,
        "currency": "EUR",
        "items": [{ "sku": "mug", "name": "Mug", "quantity": 2, "unit_price": 1250 }],
    })
}

/// Reads a JSON answer after checking its status.
pub(crate) async fn json(response: Response, status: u16) -> Value {
    let seen = response.status();
    let body = response.text().await.expect("a body");
    assert_eq!(seen, status, "{body}");
    serde_json::from_str(&body).unwrap_or_else(|_| panic!("not JSON: {body}"))
}

/// Reads a problem document and returns its code.
pub(crate) async fn problem(response: Response, status: u16) -> Value {
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let problem = json(response, status).await;
    assert_eq!(problem["status"], status);
    assert!(problem["trace_id"].is_string(), "{problem}");
    problem
}

/// Returns the identifier of an order.
pub(crate) fn id(order: &Value) -> &str {
    order["id"].as_str().expect("an identifier")
}

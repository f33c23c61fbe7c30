//! The services around the two workflows, made up: gateway, records, post, tickets, rules and managers.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde_json::{Value, json};

/// The ticket that nobody knows.
pub const INVALID_TICKET: &str = "INVALID-TICKET";
/// The ticket of somebody of whom nothing else is known: neither a payment nor an address.
pub const BARE_TICKET: &str = "BARE-TICKET";
/// In cents: what may be refunded without a manager, if the agent wants none.
pub const WITHOUT_APPROVAL_MAX: u64 = 10_000;

/// A request, as far as it matters here.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Such as `/refunds`.
    pub path: String,
    /// By lower-case names.
    pub headers: BTreeMap<String, String>,
    /// What came with it.
    pub body: Value,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Such as 201.
    pub status: u16,
    /// What goes with it.
    pub body: Value,
}

/// What goes wrong, and how often.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The path of the requests that it concerns.
    pub path: String,
    /// What happens instead of the usual.
    pub instead: Instead,
    /// In so many requests; in all if `None`.
    pub times: Option<u32>,
    /// Whether the request is carried out nevertheless, so that only its answer is lost.
    pub is_done: bool,
}

/// What a service does instead of the usual.
#[derive(Debug, Clone)]
pub enum Instead {
    /// Answers with this status.
    Status(u16),
    /// Answers as usual, but for this word as `status` in the body.
    Word(String),
    /// Does not answer.
    Silence,
}

impl Fault {
    /// The request is not carried out.
    pub fn new(path: &str, instead: Instead, times: Option<u32>) -> Fault {
        Fault {
            path: path.to_owned(),
            instead,
            times,
            is_done: false,
        }
    }
}

/// `PATH:ANSWER[:TIMES]`, as in `/refunds:503:1`, `/policy:denied`, `/approvals:silence:1`.
impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let wrong = || format!("`{text}` is not PATH:ANSWER[:TIMES], as in /refunds:pending:1");
        let parts: Vec<&str> = text.split(':').collect();
        let (path, answer, times) = match parts[..] {
            [path, answer] => (path, answer, None),
            [path, answer, times] => (path, answer, Some(times.parse().map_err(|_| wrong())?)),
            _ => return Err(wrong()),
        };
        let instead = match answer.parse() {
            Ok(status) => Instead::Status(status),
            Err(_) if answer == "silence" => Instead::Silence,
            Err(_) => Instead::Word(answer.to_owned()),
        };
        Ok(Fault::new(path, instead, times))
    }
}

/// All that the services know.
#[derive(Debug, Clone, Default)]
pub struct Company {
    /// In cents, what was paid. Other payments are of any amount.
    payments: BTreeMap<String, u64>,
    /// Payments that were given back as a whole.
    refunded: BTreeSet<String>,
    /// What the gateway has given back: one document for each.
    refunds: Vec<Value>,
    records: Vec<Value>,
    notifications: Vec<Value>,
    approvals: Vec<Value>,
    /// What was answered to a request, by its idempotency key.
    answers: BTreeMap<String, Answer>,
    faults: Vec<Fault>,
}

impl Company {
    /// Adds a payment of so many cents.
    pub fn add_payment(&mut self, id: &str, cents: u64) {
        self.payments.insert(id.to_owned(), cents);
    }

    /// Adds something that goes wrong.
    pub fn add_fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// What the gateway has given back.
    pub fn refunds(&self) -> &[Value] {
        &self.refunds
    }

    /// What was written down about refunds.
    pub fn records(&self) -> &[Value] {
        &self.records
    }

    /// What customers were told.
    pub fn notifications(&self) -> &[Value] {
        &self.notifications
    }

    /// What managers were asked.
    pub fn approvals(&self) -> &[Value] {
        &self.approvals
    }

    /// Answers a request; `None` is silence. One with a known idempotency key gets the answer of the first.
    pub fn answer(&mut self, request: &Request) -> Option<Answer> {
        let wrong = self
            .faults
            .iter_mut()
            .find(|fault| fault.times != Some(0) && fault.path == request.path);
        let Some(fault) = wrong else {
            return Some(self.once(request));
        };
        fault.times = fault.times.map(|times| times - 1);
        let fault = fault.clone();
        if fault.is_done {
            self.once(request);
        }
        match fault.instead {
            Instead::Status(status) => Some(refused(status, "SIMULATED")),
            Instead::Word(word) => {
                // Of a copy: whatever it does is forgotten.
                let mut answer = self.clone().carry_out(request);
                answer.body["status"] = word.into();
                Some(answer)
            }
            Instead::Silence => None,
        }
    }

    fn once(&mut self, request: &Request) -> Answer {
        let Some(key) = request.headers.get("idempotency-key") else {
            return self.carry_out(request);
        };
        if let Some(known) = self.answers.get(key) {
            return known.clone();
        }
        let answer = self.carry_out(request);
        self.answers.insert(key.clone(), answer.clone());
        answer
    }

    fn carry_out(&mut self, request: &Request) -> Answer {
        let body = &request.body;
        match request.path.as_str() {
            "/eligibility" => self.eligibility(body),
            "/refunds" => self.refund(body),
            "/records" => {
                let number = add(&mut self.records, body);
                done(
                    &json!({"record_id": format!("rec_{number}"), "audit_trail_id": format!("audit_{number}")}),
                )
            }
            "/notifications" if !body["to"].is_string() => refused(422, "NO_RECIPIENT"),
            "/notifications" => {
                let number = add(&mut self.notifications, body);
                done(&json!({"notification_id": format!("note_{number}")}))
            }
            "/tickets" => ticket(body),
            "/policy" => policy(body),
            "/approvals" => {
                let number = add(&mut self.approvals, body);
                let id = format!("appr_{number}");
                done(&json!({"status": "approved", "approval_id": id, "manager": "Grace"}))
            }
            "/resolutions" => done(&json!({"status": "resolved"})),
            _ => refused(404, "NO_SUCH_PATH"),
        }
    }

    /// A payment is refunded as a whole, or in part if that is asked for.
    fn eligibility(&self, body: &Value) -> Answer {
        let id = body["payment_id"].as_str().unwrap_or_default();
        let asked = body["refund_amount"].as_u64().unwrap_or_default();
        let paid = self.payments.get(id).copied().unwrap_or(asked);
        let in_part = body["partial_refund"] == true;
        let status = if self.refunded.contains(id) {
            "ineligible"
        } else if in_part && asked > paid {
            "insufficient_funds"
        } else {
            "eligible"
        };
        let amount = if in_part { asked } else { paid };
        done(&json!({
            "status": status, "refund_amount": amount, "payment_method": "card", "gateway": "mock_gateway",
        }))
    }

    fn refund(&mut self, body: &Value) -> Answer {
        let id = body["payment_id"].as_str().unwrap_or_default();
        let number = self.refunds.len() + 1;
        let mut answer = json!({
            "status": "processed", "refund_id": format!("ref_{number}"), "transaction_id": format!("txn_{number}"),
        });
        if self.refunded.contains(id) {
            answer["status"] = "already_refunded".into();
            return done(&answer);
        }
        if body["partial_refund"] != true {
            self.refunded.insert(id.to_owned());
        }
        add(&mut self.refunds, body);
        done(&answer)
    }
}

/// Keeps a document, and gives it a number.
fn add(kept: &mut Vec<Value>, body: &Value) -> usize {
    kept.push(body.clone());
    kept.len()
}

fn ticket(body: &Value) -> Answer {
    if body["ticket_id"] == INVALID_TICKET {
        return refused(404, "TICKET_NOT_FOUND");
    }
    if body["ticket_id"] == BARE_TICKET {
        return done(&json!({"status": "open"}));
    }
    done(&json!({"status": "open", "payment_id": "pay_4711", "customer_email": "ada@example.com"}))
}

fn policy(body: &Value) -> Answer {
    let wanted = body["requires_approval"] == true;
    let is_large = body["refund_amount"].as_u64() > Some(WITHOUT_APPROVAL_MAX);
    done(&json!({"status": "approved", "requires_approval": wanted || is_large}))
}

fn done(body: &Value) -> Answer {
    Answer {
        status: 200,
        body: body.clone(),
    }
}

fn refused(status: u16, error: &str) -> Answer {
    Answer {
        status,
        body: json!({"error": error}),
    }
}

//! The customer success team's steps: ticket, rules and approval. The money is not theirs.
//!
//! Each word of a service is a variant, so that the compiler asks what it leads to.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tasker::{Context, StepContext, StepHandlers, StepResult};

use crate::failure::{permanent, refused, undecided};
use crate::services::Services;

/// Adds the code under the names that `customer_success.yaml` gives it.
pub(crate) fn add_to(handlers: StepHandlers) -> StepHandlers {
    handlers
        .add(
            "CustomerSuccess::ValidateRefundRequest",
            validate_refund_request,
        )
        .add("CustomerSuccess::CheckRefundPolicy", check_refund_policy)
        .add("CustomerSuccess::GetManagerApproval", get_manager_approval)
        .add("CustomerSuccess::UpdateTicketStatus", update_ticket_status)
}

/// The input, as far as it matters here. The schema has looked at it.
#[derive(Debug, Deserialize)]
pub struct Wish {
    ticket_id: String,
    customer_id: String,
    /// In cents.
    refund_amount: u64,
    refund_reason: String,
    agent_notes: Option<String>,
    requires_approval: bool,
    correlation_id: Option<String>,
    customer_email: Option<String>,
    payment_id: Option<String>,
}

impl Wish {
    /// Goes with every request of the task; the same in every attempt.
    fn correlation_id(&self, step: &StepContext) -> String {
        let given = self.correlation_id.clone();
        given.unwrap_or_else(|| format!("cs-{}", hex(step)))
    }
}

/// The task's id in hexadecimal digits.
fn hex(step: &StepContext) -> String {
    step.task_id().to_string().replace('-', "")
}

#[derive(Debug, Deserialize)]
struct TicketAnswer {
    status: Ticket,
    payment_id: Option<String>,
    customer_email: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ticket {
    Open,
    InProgress,
    Closed,
    Cancelled,
    Duplicate,
}

/// A request that may be granted.
#[derive(Debug, Serialize)]
pub struct OpenTicket {
    request_validated: bool,
    ticket_status: Ticket,
    payment_id: String,
    customer_email: String,
    correlation_id: String,
}

/// Is the ticket one that may still lead to a refund?
pub async fn validate_refund_request(
    Context(wish): Context<Wish>,
    services: Services,
    step: StepContext,
) -> StepResult<OpenTicket> {
    let correlation_id = wish.correlation_id(&step);
    let asked = json!({"ticket_id": wish.ticket_id, "customer_id": wish.customer_id});
    let ticket: TicketAnswer = services
        .ask("/tickets", Some(&correlation_id), asked)
        .await?;
    let word = ticket.status;
    if let Ticket::Closed | Ticket::Cancelled | Ticket::Duplicate = word {
        let message = "nothing is refunded on a ticket that is not open";
        return Err(refused("TICKET_NOT_OPEN", word, message));
    }
    // Both are asked for here, and not where they are used: that is after the money has moved.
    let payment_id = wish.payment_id.or(ticket.payment_id);
    let payment_id =
        payment_id.ok_or_else(|| permanent("MISSING_PAYMENT_ID", "the ticket has no payment"))?;
    let customer_email = wish.customer_email.or(ticket.customer_email);
    let customer_email = customer_email
        .ok_or_else(|| permanent("MISSING_CUSTOMER_EMAIL", "the customer has no address"))?;
    Ok(OpenTicket {
        request_validated: true,
        ticket_status: word,
        payment_id,
        customer_email,
        correlation_id,
    })
}

#[derive(Debug, Deserialize)]
struct PolicyAnswer {
    status: Policy,
    requires_approval: bool,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Policy {
    Approved,
    Conditional,
    Denied,
    RequiresReview,
}

/// What the rules say.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ruling {
    policy_checked: bool,
    policy_status: Policy,
    requires_approval: bool,
}

/// Do the rules allow it, and who has to approve it?
pub async fn check_refund_policy(
    Context(wish): Context<Wish>,
    services: Services,
    step: StepContext,
) -> StepResult<Ruling> {
    let asked = json!({
        "customer_id": wish.customer_id,
        "refund_amount": wish.refund_amount,
        "refund_reason": wish.refund_reason,
        "requires_approval": wish.requires_approval,
    });
    let correlation_id = wish.correlation_id(&step);
    let answer: PolicyAnswer = services
        .ask("/policy", Some(&correlation_id), asked)
        .await?;
    let word = answer.status;
    match word {
        Policy::Approved | Policy::Conditional => Ok(Ruling {
            policy_checked: true,
            policy_status: word,
            requires_approval: answer.requires_approval,
        }),
        Policy::Denied => Err(refused(
            "POLICY_DENIED",
            word,
            "the rules forbid the refund",
        )),
        Policy::RequiresReview => Err(undecided(word, "somebody has to look at the rules first")),
    }
}

#[derive(Debug, Deserialize)]
struct ApprovalAnswer {
    status: Approval,
    approval_id: String,
    manager: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Approval {
    Approved,
    Denied,
    Expired,
    Pending,
}

/// Who has approved it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Approved {
    approval_obtained: bool,
    approval_id: String,
    /// `None`: nobody had to.
    manager: Option<String>,
}

/// Asks a manager, if the rules want one.
pub async fn get_manager_approval(
    Context(wish): Context<Wish>,
    services: Services,
    step: StepContext,
) -> StepResult<Approved> {
    let checked: Ruling = step.parent("check_refund_policy")?;
    if !checked.requires_approval {
        return Ok(Approved {
            approval_obtained: true,
            approval_id: format!("auto_{}", hex(&step)),
            manager: None,
        });
    }
    let asked = json!({
        "ticket_id": wish.ticket_id,
        "refund_amount": wish.refund_amount,
        "refund_reason": wish.refund_reason,
        "agent_notes": wish.agent_notes,
    });
    let correlation_id = wish.correlation_id(&step);
    let answer: ApprovalAnswer = services
        .ask("/approvals", Some(&correlation_id), asked)
        .await?;
    let word = answer.status;
    match word {
        Approval::Approved => Ok(Approved {
            approval_obtained: true,
            approval_id: answer.approval_id,
            manager: Some(answer.manager),
        }),
        Approval::Denied | Approval::Expired => {
            let message = "the manager has not approved the refund";
            Err(refused("APPROVAL_DENIED", word, message))
        }
        Approval::Pending => Err(undecided(word, "the manager has not decided yet")),
    }
}

/// What the payments team's task has come to, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Delegated {
    refund_id: String,
}

#[derive(Debug, Deserialize)]
struct ResolutionAnswer {
    status: Resolution,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Resolution {
    Resolved,
    Closed,
    Open,
    InProgress,
    Error,
}

/// The end of the ticket.
#[derive(Debug, Serialize)]
pub struct ClosedTicket {
    ticket_updated: bool,
    ticket_status: Resolution,
    refund_id: String,
}

/// Closes the ticket.
pub async fn update_ticket_status(
    Context(wish): Context<Wish>,
    services: Services,
    step: StepContext,
) -> StepResult<ClosedTicket> {
    let approved: Approved = step.parent("get_manager_approval")?;
    let delegated: Delegated = step.parent("execute_refund_workflow")?;
    let asked = json!({
        "ticket_id": wish.ticket_id,
        "refund_id": delegated.refund_id,
        "approval_id": approved.approval_id,
    });
    let correlation_id = wish.correlation_id(&step);
    let answer: ResolutionAnswer = services
        .ask("/resolutions", Some(&correlation_id), asked)
        .await?;
    let word = answer.status;
    match word {
        Resolution::Resolved | Resolution::Closed => Ok(ClosedTicket {
            ticket_updated: true,
            ticket_status: word,
            refund_id: delegated.refund_id,
        }),
        Resolution::Open | Resolution::InProgress => {
            Err(undecided(word, "the ticket is not closed yet"))
        }
        Resolution::Error => Err(refused(
            "TICKET_NOT_UPDATED",
            word,
            "the ticket cannot be closed",
        )),
    }
}

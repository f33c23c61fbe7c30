//! What every store must do, whatever it is built on.
//!
//! Each test is written once, against the `Store` trait, and runs on every backend: a store joins
//! by a function in [`fixture`] that gives a [`fixture::Fixture`], and its name in
//! `on_every_backend`. After each test every task that it left behind is audited. What concerns
//! the embedded store alone stands in [`sqlite_file`], [`read_only`] and [`audit`]; the SQL that PostgreSQL
//! offers to people and to other languages in [`operators`] and [`create_task`].
//!
//! No test sleeps: time is a `ManualClock`.

#![expect(
    clippy::unwrap_used,
    reason = "in a test, what cannot be unwrapped is a failure"
)]

mod fixture;
mod create;
mod claim;
mod complete;
mod heartbeat;
mod held;
mod triggers;
mod wait;
mod subtask;
mod operate;
mod query;
mod queue;
mod figures;
mod moves;
mod random;
mod reference;
mod differential;
mod audit;
mod sqlite_file;
mod operators;
mod create_task;
mod postgres_server;
#[cfg(unix)]
mod read_only;

/// Runs the listed tests on every backend.
macro_rules! on_every_backend {
    ($($tests:tt)+) => {
        on_backend! { sqlite_in_memory $($tests)+ }
        on_backend! { sqlite_in_a_file $($tests)+ }
        on_backend! { postgres $($tests)+ }
    };
}

/// Gives each listed test a fresh fixture of one backend, and audits what the test left behind.
macro_rules! on_backend {
    ($backend:ident $($module:ident: $($test:ident),+;)+) => {
        mod $backend {
            $(mod $module {
                $(#[tokio::test]
                async fn $test() {
                    let fixture = crate::fixture::$backend().await;
                    crate::$module::$test(fixture.clone()).await;
                    fixture.audit().await;
                })+
            })+
        }
    };
}

// A test that is missing here is dead code, and the compiler says so.
on_every_backend! {
    create:
        the_first_record_is_complete,
        a_request_is_stored_as_it_was_asked,
        roots_are_due_and_nothing_else,
        an_idempotency_key_gives_the_first_task,
        an_idempotency_key_belongs_to_one_handler,
        a_repeated_create_changes_nothing,
        a_repeated_create_with_identity_is_no_duplicate,
        equal_requests_within_a_minute_are_one,
        an_identity_without_window_lasts,
        bypassed_steps_are_skipped_and_count_as_done,
        a_task_with_every_step_bypassed_is_complete,
        slots_limit_what_is_claimed_at_once,
        only_runnable_definitions_are_claimed_at_once,
        without_a_budget_nothing_is_claimed,
        a_batch_is_answered_in_order,
        a_failing_neighbour_does_not_disturb_a_create;
    claim:
        no_step_is_given_twice,
        a_definition_named_twice_gives_each_step_once,
        the_oldest_is_claimed_first,
        only_what_the_worker_can_run_is_claimed,
        slots_limit_a_claim,
        a_retry_is_claimed_when_it_is_due,
        a_lease_that_expired_is_claimed_again,
        a_lease_lost_at_the_last_attempt_fails_the_step,
        three_lost_leases_quarantine_a_step,
        next_due_is_the_earliest_time_of_all,
        inputs_are_the_context_and_the_results_of_parents_as_named,
        a_deadline_fails_what_is_open,
        a_deadline_fails_a_task_that_never_started,
        a_task_within_its_deadline_is_left_alone;
    complete:
        a_result_is_stored_with_its_time,
        what_an_attempt_logged_is_kept_with_its_end,
        what_is_noted_comes_with_the_result_or_not_at_all,
        a_child_is_handed_over_in_the_same_commit,
        without_a_slot_a_child_is_due,
        a_child_of_a_foreign_definition_is_not_handed_over,
        also_due_takes_older_work_too,
        what_nobody_looked_for_may_be_left,
        a_repeated_completion_changes_nothing,
        a_stale_attempt_changes_nothing,
        another_worker_changes_nothing,
        a_completion_after_the_lease_was_retaken_changes_nothing,
        an_expired_lease_that_nobody_took_still_counts,
        one_lost_lease_does_not_spoil_the_batch,
        a_retry_waits_for_its_delay,
        a_permanent_failure_blocks_its_descendants_only,
        a_task_fails_only_when_nothing_is_open,
        a_limit_raised_during_the_last_attempt_counts,
        a_hand_back_does_not_count_the_attempt,
        siblings_in_one_batch_make_a_child_ready_once,
        siblings_in_separate_batches_make_a_child_ready_once,
        a_diamond_runs_through,
        tasks_of_one_batch_finish_together;
    triggers:
        a_rule_is_decided_as_soon_as_it_can_be,
        whoever_claims_is_told_the_states_of_the_parents,
        a_step_that_is_handed_over_knows_them_too,
        a_skip_says_why,
        a_lost_step_counts_as_failed,
        a_step_waits_again_when_the_parent_that_failed_goes_round,
        a_deadline_starts_nothing,
        resolving_a_failed_parent_counts_as_success;
    wait:
        a_step_that_waits_is_due_at_its_time,
        a_time_can_be_given_and_may_be_over,
        a_signal_ends_the_wait,
        an_early_signal_is_kept,
        what_has_come_survives_a_lost_lease_and_a_retry,
        a_final_task_takes_no_signal,
        a_task_that_waits_can_be_cancelled_and_deleted;
    subtask:
        beyond_the_concurrency_they_are_held,
        the_last_end_wakes_the_step,
        too_many_failures_wake_it_and_start_nothing_more,
        a_step_that_waits_too_late_is_due_at_once,
        ends_of_one_commit_are_counted_together,
        without_the_lease_nothing_is_created,
        a_repeated_creation_is_counted_once,
        what_came_first_is_the_plan,
        a_held_one_that_is_cancelled_is_not_started,
        a_held_one_stays_held_whatever_is_ordered,
        every_end_makes_room,
        a_failure_that_is_taken_back_makes_room,
        orders_are_counted,
        one_that_goes_round_again_is_waited_for,
        lost_leases_and_deadlines_are_counted,
        what_was_cancelled_is_replaced,
        what_is_replaced_makes_room_for_all,
        what_failed_is_replaced_too,
        every_last_step_has_its_result,
        their_last_results_are_read_page_by_page,
        a_failed_task_is_told_until_it_is_seen_to,
        a_task_that_fails_again_is_told_again,
        a_step_that_is_skipped_leaves_its_sub_tasks,
        a_step_that_fails_for_good_leaves_its_sub_tasks,
        what_failed_is_undone_once_and_stays_closed,
        lists_show_them_if_asked,
        they_are_deleted_after_what_started_them;
    heartbeat:
        a_heartbeat_extends_a_lease,
        progress_is_noted_by_whoever_holds_the_lease,
        lost_leases_are_given_back_in_order,
        a_lease_of_another_worker_or_attempt_is_lost,
        an_expired_lease_that_nobody_took_is_extended,
        workers_are_registered_and_listed,
        workers_are_forgotten_after_a_day;
    held:
        what_is_held_is_what_was_claimed,
        a_repeated_completion_finds_its_children_held,
        what_was_given_up_or_taken_away_is_not_held,
        only_what_the_worker_can_run_is_found;
    operate:
        cancelling_a_task_stops_all_of_it,
        a_task_can_be_cancelled_before_it_starts_and_after_it_is_complete,
        a_failed_task_can_be_resolved_and_then_cancelled,
        cancelling_a_step_cancels_its_descendants,
        a_step_in_its_backoff_can_be_cancelled,
        cancelling_all_roots_of_a_new_task_cancels_it,
        retrying_a_step_reopens_its_task,
        a_retry_leaves_as_many_attempts_as_asked,
        a_retry_ends_a_backoff,
        retrying_a_task_retries_every_failed_step,
        a_task_that_fails_again_is_failed_again,
        a_resolved_result_is_what_children_read,
        resolving_the_last_failed_step_completes_the_task,
        a_step_can_be_resolved_before_its_turn,
        a_new_task_can_be_resolved_step_by_step,
        skipping_lets_children_go_on,
        a_due_step_that_is_skipped_does_not_run,
        skipping_the_only_failure_beside_a_cancelled_step_cancels_the_task,
        a_raised_limit_sends_an_exhausted_step_round_again,
        a_raised_limit_does_not_help_a_permanent_failure,
        a_limit_can_only_be_raised,
        a_quarantined_step_starts_afresh_when_it_is_retried,
        a_reopened_task_has_no_deadline,
        illegal_orders_for_tasks_name_state_and_possibilities,
        illegal_orders_for_steps_name_state_and_possibilities,
        nothing_of_a_task_that_is_closed_for_good_can_be_moved,
        unknown_tasks_and_steps_are_named,
        the_actor_is_recorded,
        an_order_and_a_completion_at_once_do_not_mix;
    query:
        pages_go_from_new_to_old,
        tasks_of_one_moment_are_listed_once_each,
        a_list_is_filtered_by_state,
        a_state_that_is_named_twice_lists_a_task_once,
        a_list_is_filtered_by_handler,
        what_does_not_exist_is_not_found,
        a_list_tells_what_a_task_tells,
        definitions_are_kept_once_each,
        the_change_mark_changes_with_every_commit;
    queue:
        a_task_does_not_start_before_its_time,
        a_start_in_the_past_is_now,
        a_priority_is_worth_ten_seconds_a_level,
        priorities_are_claimed_together,
        a_queue_of_its_own_is_claimed_apart,
        a_limited_queue_runs_no_more_than_its_limit,
        a_limit_of_zero_pauses_a_queue,
        an_expired_lease_takes_no_room,
        queues_tell_what_runs_and_what_waits,
        finished_tasks_are_deleted_in_batches;
    figures:
        an_empty_store_has_figures,
        health_counts_every_state,
        analytics_are_about_whole_tasks,
        the_slowest_come_first,
        the_slowest_are_filtered,
        readiness_follows_the_claim;
    moves:
        every_legal_move_but_one_is_taken;
    random:
        seeds_from_0,
        seeds_from_15,
        seeds_from_30,
        seeds_from_45;
}

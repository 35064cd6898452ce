-- Takes orders and moves them. A transition names the state and the revision it starts from; a row that is not
-- there any more is not moved, and nothing that belongs to the transition is written.

-- name: insert_orders
-- Orders of INTAKE that are new here, with their buyers and their first state for publication.
with asked as (
    select * from unnest(
        $1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::jsonb[], $7::text[], $8::text[],
        $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[], $14::text[], $15::text[],
        $16::bytea[], $17::text[]
    ) as a (
        order_id, sale, buyer, idempotency_key, request_hash, items, hold_id, currency,
        place, joined_at_ms, called_at_ms, accepted_at_ms, namespace, subject, order_subject,
        payload, traceparent
    )
),
known as (
    insert into buyers.buyers (buyer, namespace, subject)
    select distinct on (buyer) buyer, namespace, subject from asked order by buyer
    on conflict do nothing
),
inserted as (
    insert into orders.orders (
        order_id, sale, buyer, state, idempotency_key, request_hash, items, hold_id, currency,
        place, joined_at_ms, called_at_ms, accepted_at_ms, updated_at_ms, traceparent
    )
    select
        order_id, sale, buyer, 'ACCEPTED', idempotency_key, request_hash, items, hold_id, currency,
        place, joined_at_ms, called_at_ms, accepted_at_ms, accepted_at_ms, traceparent
    from asked order by order_id
    on conflict do nothing
    returning order_id
),
announced as (
    insert into orders.outbox (order_id, version, subject, decided_at_ms, payload, traceparent)
    select order_id, 0, order_subject, accepted_at_ms, payload, traceparent
    from asked join inserted using (order_id)
)
select order_id from inserted;

-- name: advance_orders
-- Moves orders, each with its payment, its tickets, the webhook that caused it and its new state for
-- publication: all of one order's parts, or none. Units that are null stay. Returns the orders that were moved.
with wanted as (
    select * from unnest(
        $1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::jsonb[],
        $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::boolean[], $15::bigint[]
    ) as w (
        order_id, from_state, from_revision, state, reason, version, ends_as, units,
        amount, held_at_ms, updated_at_ms, pay_until_ms, pin_until_ms, owes_units, due_at_ms
    )
),
moved as (
    update orders.orders o set
        state = w.state, reason = w.reason, version = w.version, revision = o.revision + 1, ends_as = w.ends_as,
        units = coalesce(w.units, o.units), amount = w.amount, held_at_ms = w.held_at_ms,
        updated_at_ms = w.updated_at_ms, pay_until_ms = w.pay_until_ms, pin_until_ms = w.pin_until_ms,
        owes_units = w.owes_units, due_at_ms = w.due_at_ms, sweeps = 0
    from wanted w
    where o.order_id = w.order_id and o.state = w.from_state and o.revision = w.from_revision
    returning o.order_id, o.sale
),
announced as (
    insert into orders.outbox (order_id, version, subject, decided_at_ms, payload, traceparent)
    select a.* from unnest($16::text[], $17::integer[], $18::text[], $19::bigint[], $20::bytea[], $21::text[])
        as a (order_id, version, subject, decided_at_ms, payload, traceparent)
    join moved using (order_id)
),
paid as (
    insert into payments.payments
        (order_id, provider, session_id, url, state, amount, currency, pay_until_ms, declines)
    select p.* from unnest(
        $22::text[], $23::text[], $24::text[], $25::text[], $26::text[], $27::bigint[], $28::text[],
        $29::bigint[], $30::integer[]
    ) as p (order_id, provider, session_id, url, state, amount, currency, pay_until_ms, declines)
    join moved using (order_id)
    on conflict (order_id) do update set state = excluded.state, declines = excluded.declines
),
claimed as (
    insert into orders.tickets (ticket_id, order_id, sale, section, unit, ticket_type, price, seat, state)
    select t.ticket_id, t.order_id, m.sale, t.section, t.unit, t.ticket_type, t.price, t.seat, 'LIVE'
    from unnest(
        $31::text[], $32::text[], $33::text[], $34::integer[], $35::text[], $36::bigint[], $37::text[]
    ) as t (ticket_id, order_id, section, unit, ticket_type, price, seat)
    join moved m using (order_id)
),
signed as (
    update orders.tickets t set code = s.code
    from unnest($38::text[], $39::text[], $40::text[]) as s (ticket_id, order_id, code)
    join moved using (order_id)
    where t.ticket_id = s.ticket_id
),
dropped as (
    delete from orders.tickets t using unnest($41::text[]) as d (order_id) join moved using (order_id)
    where t.order_id = d.order_id
),
caused as (
    insert into payments.webhooks (provider, event_id, order_id, received_at_ms)
    select c.* from unnest($42::text[], $43::text[], $44::text[], $45::bigint[])
        as c (provider, event_id, order_id, received_at_ms)
    join moved using (order_id)
)
select order_id from moved;

-- name: due_orders
-- Orders that nobody has moved in time. Taking one puts its next visit further off each time, so that
-- replicas share them and a provider that is down is not asked ever faster.
update orders.orders o set
    due_at_ms = $1::bigint + least($2::bigint * (1 << least(o.sweeps, 10)), $3::bigint), sweeps = o.sweeps + 1
from (
    select order_id from orders.orders
    where due_at_ms > 0 and due_at_ms <= $1::bigint
    order by due_at_ms limit $4 for update skip locked
) due
where o.order_id = due.order_id
returning o.order_id;

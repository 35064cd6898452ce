-- Buyers, orders with their tickets and outbox, and payments. Times are milliseconds since 1970, money is in
-- the currency's minor unit.

create schema buyers;
create schema orders;
create schema payments;

-- Who a buyer id stands for. Everything else knows buyers by the id alone.
create table buyers.buyers (
    buyer     text primary key,
    namespace text not null,
    subject   text not null,
    unique (namespace, subject)
);

create table orders.orders (
    -- A hash of sale, buyer and idempotency key: the primary key carries I7.
    order_id        text primary key,
    sale            text not null,
    buyer           text not null,
    state           text not null check (state in (
        'ACCEPTED', 'HELD', 'AWAITING_PAYMENT', 'AUTHORIZED', 'CAPTURING', 'CONFIRMED',
        'REJECTED', 'EXPIRED', 'CANCELLED', 'PAYMENT_FAILED', 'VOIDING'
    )),
    reason          text not null default '',
    -- Grows with every change that is published.
    version         integer not null default 0,
    -- Grows with every change at all: what transitions guard on beside the state.
    revision        integer not null default 0,
    -- While VOIDING: the state that follows.
    ends_as         text check (ends_as in ('EXPIRED', 'CANCELLED', 'PAYMENT_FAILED')),
    idempotency_key text not null,
    request_hash    bytea not null,
    items           jsonb not null,
    hold_id         text not null,
    units           jsonb not null default '[]',
    amount          bigint not null default 0 check (amount >= 0),
    currency        text not null,
    place           bigint,
    joined_at_ms    bigint not null default 0,
    called_at_ms    bigint not null default 0,
    accepted_at_ms  bigint not null,
    held_at_ms      bigint not null default 0,
    updated_at_ms   bigint not null,
    pay_until_ms    bigint not null default 0,
    pin_until_ms    bigint not null default 0,
    -- The ledger must still be told that this ended order wants its units no more.
    owes_units      boolean not null default false,
    -- When the sweeper takes the order up; 0 for never.
    due_at_ms       bigint not null default 0,
    -- How often it did without moving it.
    sweeps          integer not null default 0,
    check ((state = 'VOIDING') = (ends_as is not null))
);

create index orders_due on orders.orders (due_at_ms) where due_at_ms > 0;
create index orders_by_buyer on orders.orders (buyer, sale, accepted_at_ms desc, order_id desc);
create index orders_by_sale on orders.orders (sale, state);

create table orders.tickets (
    ticket_id   text primary key,
    order_id    text not null references orders.orders,
    sale        text not null,
    section     text not null,
    unit        integer not null check (unit >= 0),
    ticket_type text not null,
    price       bigint not null check (price >= 0),
    seat        text not null default '',
    state       text not null check (state in ('LIVE', 'VOID')),
    -- Empty until the money is taken: a ticket without a code is not issued (I5).
    code        text not null default ''
);

-- I1: a unit is sold to at most one live ticket.
create unique index tickets_live_unit on orders.tickets (sale, section, unit) where state = 'LIVE';
create index tickets_by_order on orders.tickets (order_id);

-- Every published state of an order, written in the transaction that made it (I11).
create table orders.outbox (
    order_id        text not null references orders.orders,
    version         integer not null,
    subject         text not null,
    decided_at_ms   bigint not null,
    -- The serialized OrderChanged; emptied once it is published.
    payload         bytea not null,
    published       boolean not null default false,
    -- Where JetStream has it: the fence of the next version.
    stream_sequence bigint,
    primary key (order_id, version)
);

create index outbox_unpublished on orders.outbox (decided_at_ms) where not published;

create table payments.payments (
    -- One payment per order.
    order_id     text primary key references orders.orders,
    provider     text not null,
    session_id   text not null,
    url          text not null,
    state        text not null check (state in (
        'OPEN', 'AUTHORIZED', 'CAPTURED', 'REFUNDING', 'REFUNDED', 'VOIDING', 'VOIDED', 'LAPSED'
    )),
    amount       bigint not null check (amount > 0),
    currency     text not null,
    pay_until_ms bigint not null,
    declines     integer not null default 0,
    -- A session settles one order only.
    unique (provider, session_id)
);

-- The providers' calls that changed something, each taken once.
create table payments.webhooks (
    provider       text not null,
    event_id       text not null,
    order_id       text not null references orders.orders,
    received_at_ms bigint not null,
    primary key (provider, event_id)
);

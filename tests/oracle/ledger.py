#!/usr/bin/env python3
"""What everybody's books come to, by an export of the log.

    tollbook-replay export --format jsonl --data DIR | python3 ledger.py > books.json

Reads the lines that docs/export.md describes, follows them one by one as the rules say, and prints one JSON document:
balances, vouchers, tiers, spend, statements, a trial balance, and complaints about what should not be in a log. Written
from the rules and not from the engine, slowly and plainly, so that both can be compared. Needs Python 3.9 and tzdata.
"""

import csv
import hashlib
import io
import json
import re
import sys
import zoneinfo
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, Inexact, getcontext

getcontext().prec = 60
getcontext().traps[Inexact] = True  # nothing is ever rounded
zoneinfo.reset_tzpath(to=[])  # the tzdata package, not the machine's files

ZERO = Decimal(0)
MILLION = Decimal(1_000_000)
SECOND = 1_000_000_000
DAY = 86_400
ABSURD = 10**12  # tokens or units in one record
MOST = Decimal(10**16)  # that anybody may ever have spent
AHEAD = 5 * 60 * SECOND
HORIZON = 62 * DAY * SECOND
WINDOW = 65_536
JUMP = 2**20

DEFAULT_TIERS = [("Tier0", 1), ("Tier1", 10), ("Tier2", 20), ("Tier3", 100), ("Tier4", 1000), ("Tier5", 3000)]


# ---- times -------------------------------------------------------------------------------------------------------

TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")


def instant(text):
    """Nanoseconds since 1970."""
    seconds, fraction = TIME.fullmatch(text).groups()
    at = datetime.fromisoformat(seconds).replace(tzinfo=timezone.utc)
    return int(at.timestamp()) * SECOND + int((fraction or "").ljust(9, "0"))


def shown_instant(at):
    """As it is written everywhere: UTC, with the digits it needs."""
    text = datetime.fromtimestamp(at // SECOND, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{at % SECOND:09}".rstrip("0")
    return text + ("." + fraction if fraction else "") + "Z"


def zone_day(zone, at):
    return datetime.fromtimestamp(at // SECOND, zoneinfo.ZoneInfo(zone)).date()


def zone_midnight(zone, day):
    at = datetime(day.year, day.month, day.day, tzinfo=zoneinfo.ZoneInfo(zone))
    return int(at.timestamp()) * SECOND


def month_of(day):
    return day.isoformat()[:7]


def first_of(month):
    return date.fromisoformat(month + "-01")


def month_after(month):
    return month_of(first_of(month) + timedelta(days=31))


def start_of(zones, day):
    """The first instant of a day in a calendar: a list of [first month, zone, when that begins]."""
    month, zone, start = [z for z in zones if z[0] is None or first_of(z[0]) < day][-1]
    return zone_midnight(zone, day) if month is None else max(zone_midnight(zone, day), start)


def day_in(zones, at):
    month, zone, _ = [z for z in zones if z[2] is None or z[2] <= at][-1]
    day = zone_day(zone, at)
    return day if month is None else max(day, first_of(month))


def change_zone(zones, zone, month):
    """From a month on; what was to change then or later is forgotten."""
    zones[:] = [z for z in zones if z[0] is None or z[0] < month]
    if zones[-1][1] != zone:
        zones.append([month, zone, start_of(zones, first_of(month))])


# ---- the ledger --------------------------------------------------------------------------------------------------

# Partitions are books of their own: `begin` sets these anew for each.
organizations = {}  # by id
prices = {}  # model -> [published for, holds since, price], in the order of their entries
tiers = {}  # from -> rows
policy = {}
currency = None
cycle = 0
now = 0  # the latest recorded time
term = 0
entries = set()  # ids of entries that were seen
created = False
first_seen = {}  # (organization, source, id) -> (content, where)
booked_at = {}  # where -> as what a record was charged
quarantine = {}  # where -> [reason, organization, record]
usage_records = 0
complaints = []


def begin():
    global cycle, now, term, created, usage_records
    for kept in (organizations, prices, tiers, entries, first_seen, booked_at, quarantine):
        kept.clear()
    policy.update(threshold=Decimal(5), amount=Decimal(5), days=None)
    cycle, now, term, created, usage_records = 600, 0, 0, False, 0


def complain(where, text):
    complaints.append(f"{where}: {text}")


def new_organization(zone):
    return {
        "zones": [[None, zone, None]],
        "projects": set(),
        "keys": {},  # key -> project
        "cash": ZERO,
        "vouchers": [],  # in the order of their entries
        "cumulative_recharge": ZERO,
        "highest_recharge": ZERO,  # that it ever was, after any entry
        "policy_voucher": None,  # its id, or "before" when it was granted before moving in
        "credit_limit": None,
        "prices": {},
        "sources": {},  # source -> [complete, set of numbers]
        "recharges": {},  # id -> [amount, taken back, invoice]
        "references": {},  # (kind, reference) -> content
        "reversed": set(),  # places of usage
        "invoiced": set(),  # months
        "documents": 0,
        "sealed": {},  # month -> hash
        "spent": ZERO,
        "spent_cash": ZERO,
        "booked": 0,
        "duplicates": 0,
        "quarantined": 0,
        "settled": 0,
        "cells": {},  # (booking month, day, project, model, key) -> figures
        "pending": {},  # (project, day) -> cost
        "settled_spend": {},
        "months": {},  # booking month -> {opening, movements, usage}
        "totals": dict.fromkeys(ACCOUNTS, ZERO),
    }


ACCOUNTS = [
    "assets:received",
    "assets:refunded",
    "assets:charged_back",
    "assets:receivable",
    "liabilities:cash",
    "liabilities:vouchers",
    "equity:moved_in",
    "income:usage",
    "income:breakage",
    "expenses:promotion",
    "expenses:adjustments",
]


def balance(org):
    return [org["cash"], sum((v["left"] for v in org["vouchers"]), ZERO)]


def open_month(org):
    """The books of the month in which everything is booked now."""
    month = month_of(day_in(org["zones"], now))
    return org["months"].setdefault(
        month, {"opening": balance(org), "movements": [], "usage": [ZERO, ZERO], "closing": balance(org)}
    )


def post(org, account, amount):
    """What came from an account to the customer."""
    org["totals"][account] += amount


def move(org, where, kind, event, account, identity=None, cash=ZERO, vouchers=ZERO, about=None, memo=None):
    """A line of the books. The figures stand in the balance already, and `open_month` was asked before they did."""
    after = balance(org)
    books = open_month(org)
    books["closing"] = after
    post(org, account, cash + vouchers)
    books["movements"].append(
        {
            "position": where,
            "time": shown_instant(now),
            "kind": kind,
            "id": identity,
            "relates_to": about,
            "number": event.get("number"),
            "reference": event.get("reference"),
            "reason": event.get("reason"),
            "memo": memo,
            "cash": cash,
            "vouchers": vouchers,
            "after": after,
        }
    )


def once(org, where, kind, reference):
    if (kind, reference) in org["references"]:
        complain(where, f"reference {reference} of a {kind} stands twice")
    org["references"][(kind, reference)] = where


# ---- vouchers ----------------------------------------------------------------------------------------------------


def grant(org, identity, amount, expires_at, where, of_policy=False):
    org["vouchers"].append(
        {"id": identity, "left": amount, "expires": expires_at, "granted": where, "policy": of_policy}
    )


def burn_order(org):
    """Which expires first, then the oldest: the list itself is in the order of age."""
    never = 2**63
    return sorted(org["vouchers"], key=lambda v: never if v["expires"] is None else v["expires"])


def take_voucher(org, identity):
    left = sum((v["left"] for v in org["vouchers"] if v["id"] == identity), ZERO)
    org["vouchers"] = [v for v in org["vouchers"] if v["id"] != identity]
    return left


def charge(org, cost):
    """Vouchers first, then cash. What was taken of each."""
    due = cost
    for voucher in burn_order(org):
        part = min(due, voucher["left"])
        voucher["left"] -= part
        due -= part
    org["vouchers"] = [v for v in org["vouchers"] if v["left"] > 0]
    org["cash"] -= due
    org["spent"] += cost
    org["spent_cash"] += due
    return due, cost - due


# ---- usage -------------------------------------------------------------------------------------------------------


def price_in_force(org, model, occurred):
    for book in (org["prices"], prices):
        begun = [published for published in book.get(model, []) if published[1] <= occurred]
        if begun:
            latest = max(published[0] for published in begun)
            return [published[2] for published in begun if published[0] == latest][-1]
    return None


def cost_of(org, usage, occurred):
    """What a record costs, and why not if it cannot be said."""
    read, cached, written = usage["input_tokens"], usage["cached_input_tokens"], usage["output_tokens"]
    meters = usage.get("meters", {})
    if read > ABSURD or written > ABSURD or cached > read or any(units > ABSURD for units in meters.values()):
        return None, "absurd"
    if "cost" in usage:
        cost = Decimal(usage["cost"])
        return (None, "absurd") if cost < 0 else (cost, None)
    price = price_in_force(org, usage["model"], occurred)
    if price is None:
        return None, "unknown_model"
    cost = (read - cached) * price["input"] + cached * price["cached_input"] + written * price["output"]
    for meter, units in meters.items():
        if meter not in price["meters"]:
            return None, "unknown_meter"
        cost += units * price["meters"][meter]
    return cost / MILLION, None


def counted(org, source, number):
    """What a number of a source is: new, a duplicate, or nobody can tell."""
    complete, seen, highest = org["sources"].get(source, [0, set(), 0])
    if number <= complete or number in seen and number > highest - WINDOW:
        return "duplicate"
    if number > highest + JUMP:
        return "sequence_ahead"
    if number <= highest - WINDOW:
        return "sequence_behind"
    return "new"


def count(org, source, number):
    told = counted(org, source, number)
    if told == "new":
        numbers = org["sources"].setdefault(source, [0, set(), 0])
        numbers[1].add(number)
        while numbers[0] + 1 in numbers[1]:
            numbers[0] += 1
            numbers[1].discard(numbers[0])
        numbers[2] = max(numbers[2], number)
    return told


def content(usage):
    """What makes a record the same: all that was sent, so not a time that was assumed."""
    same = {k: v for k, v in usage.items() if k not in ("row", "organization", "source", "id", "producerseq")}
    if same.pop("time_assumed", False):
        del same["time"]
    return json.dumps(same, sort_keys=True)


def payer(org, usage):
    """Project, key, and why there is none."""
    if "api_key_id" in usage:
        key = usage["api_key_id"]
        return (org["keys"][key], key, None) if key in org["keys"] else (None, None, "unknown_key")
    project = usage["project"]
    return (project, None, None) if project in org["projects"] else (None, None, "unknown_project")


def judge(org, usage, where):
    """booked, duplicate, or why it is in quarantine."""
    identity = (usage["organization"], usage["source"], usage["id"])
    before = None
    if "producerseq" not in usage:
        before = first_seen.setdefault(identity, (content(usage), where))
    if org is None:
        return "unknown_organization"
    occurred = instant(usage["time"])
    if "producerseq" in usage:
        told = count(org, usage["source"], int(usage["producerseq"]))
        if told != "new":
            return told
    else:
        if before[1] != where:
            return "duplicate" if before[0] == content(usage) else "conflicting_id"
        if occurred < now - HORIZON:
            return "too_old"
    if occurred > now + AHEAD:
        return "ahead"
    project, key, fault = payer(org, usage)
    if fault:
        return fault
    cost, fault = cost_of(org, usage, occurred)
    if fault:
        return fault
    if org["spent"] + cost > MOST:
        return "absurd"
    book(org, usage, project, key, cost, occurred, where)
    return "booked"


def figures(usage, sign):
    return {
        "requests": sign,
        "input_tokens": sign * usage["input_tokens"],
        "cached_input_tokens": sign * usage["cached_input_tokens"],
        "output_tokens": sign * usage["output_tokens"],
        "meters": {meter: sign * units for meter, units in usage.get("meters", {}).items()},
    }


def consume(org, day, project, model, key, some, cost):
    """Adds to what was consumed, for analysis and for budgets."""
    booked_in = month_of(day_in(org["zones"], now))
    cell = org["cells"].setdefault((booked_in, day, project, model, key), {})
    add(cell, {**some, "cost": cost})
    spent = org["pending"] if cycle else org["settled_spend"]
    spent[project, day] = spent.get((project, day), ZERO) + cost


def add(cell, some):
    for name, figure in some.items():
        if name == "meters":
            add(cell.setdefault("meters", {}), figure)
        else:
            cell[name] = cell.get(name, 0) + figure


def book(org, usage, project, key, cost, occurred, where):
    """Charges and counts one record."""
    books = open_month(org)
    cash, vouchers = charge(org, cost)
    books["usage"][0] += cash
    books["usage"][1] += vouchers
    books["closing"] = balance(org)
    post(org, "income:usage", -cost)
    day = day_in(org["zones"], occurred).isoformat()
    consume(org, day, project, usage["model"], key, figures(usage, 1), cost)
    booked_at[where] = (org, day, project, usage["model"], key, figures(usage, 1), cost)


def usage_entry(line):
    global usage_records
    for usage in line["usage"]:
        usage_records += 1
        where = f"{line['position']}.{usage['row']}"
        org = organizations.get(usage["organization"])
        fate = judge(org, usage, where)
        if fate == "booked":
            org["booked"] += 1
        elif fate == "duplicate":
            org["duplicates"] += 1
        else:
            hold(where, fate, usage["organization"], usage)


def hold(where, reason, organization, record):
    quarantine[where] = [reason, organization, record]
    if organization in organizations:
        organizations[organization]["quarantined"] += 1


# ---- decisions ---------------------------------------------------------------------------------------------------


def publish(book, event, where, decided, org=None, copied=False):
    """Prices merge by model and instant. Nothing that was charged may come to cost something else.

    What was decided in another partition may have begun since, and holds here from its copy on.
    """
    begin = instant(event["effective_from"])
    for row in event["models"]:
        price = {name: Decimal(row[name]) for name in ("input", "cached_input", "output")}
        price["meters"] = {meter: Decimal(each) for meter, each in row["meters"].items()}
        history = book.setdefault(row["model"], [])
        known = bool(history) or (org is not None and row["model"] in prices)
        if [published[2] for published in history if published[0] == begin][-1:] == [price]:
            continue
        if known and begin < decided and not copied:
            complain(where, f"the price of {row['model']} changes in the past")
        history.append([begin, max(begin, now) if known and copied else begin, price])


def config_event(event, where, decided, copied):
    global created, term, cycle, now
    kind = event["type"]
    if kind == "ledger.created":
        created = True
    elif kind == "partition.ownership_taken":
        term = event["term"]
    elif kind == "config.prices_published":
        publish(prices, event, where, decided, copied=copied)
    elif kind == "config.tiers_published":
        rows = [(row["name"], Decimal(row["cumulative_recharge"])) for row in event["tiers"]]
        tiers[instant(event["effective_from"])] = rows
    elif kind == "config.voucher_policy_set":
        policy["threshold"], policy["amount"] = Decimal(event["threshold"]), Decimal(event["amount"])
        policy["days"] = event["expires_after_days"]
    elif kind == "config.billing_cycle_set":
        cycle = event["cycle_seconds"]
        if cycle == 0:
            settle_all()
    elif kind == "billing_cycle.closed":
        through = instant(event["through"])
        if cycle == 0 or through > now or through % (cycle * SECOND):
            complain(where, f"no billing cycle ends at {event['through']}")
        settle_all()
    elif kind == "month.closed":
        # Nothing is booked in that month from here on.
        ended = zone_midnight(event["time_zone"], first_of(month_after(event["month"])))
        if instant(event["until"]) != ended:
            complain(where, f"{event['month']} ends at another time in {event['time_zone']}")
        if ended > now:
            complain(where, f"{event['month']} is closed before it is over in {event['time_zone']}")
        now = max(now, ended)


def settle_all():
    for org in organizations.values():
        for at, cost in org["pending"].items():
            org["settled_spend"][at] = org["settled_spend"].get(at, ZERO) + cost
        org["pending"] = {}


def organization_entry(line):
    name = line["subject"].split(".org.")[1]
    where = line["position"]
    known = organizations.get(name, {"cumulative_recharge": ZERO, "highest_recharge": ZERO})
    before, highest = known["cumulative_recharge"], known["highest_recharge"]
    for event in line["events"]:
        if event["type"] == "organization.registered":
            if name in organizations:
                complain(where, f"{name} is registered twice")
            organizations[name] = new_organization(event["time_zone"])
        else:
            organization_event(organizations[name], event, where, instant(line["recorded_at"]))
    org = organizations[name]
    org["highest_recharge"] = max(highest, org["cumulative_recharge"])
    check_policy_voucher(org, before, highest, line["events"], where)


def organization_event(org, event, where, decided):
    kind = event["type"]
    if kind == "organization.time_zone_changed":
        following = month_after(month_of(day_in(org["zones"], now)))
        change_zone(org["zones"], event["time_zone"], max(event["from"], following))
    elif kind == "organization.credit_limit_set":
        org["credit_limit"] = event["limit"]
    elif kind == "organization.prices_published":
        publish(org["prices"], event, where, decided, org)
    elif kind == "project.created":
        org["projects"].add(event["project"])
    elif kind == "api_key.issued":
        org["keys"][event["api_key"]] = event["project"]
    elif kind in MONEY:
        open_month(org)
        MONEY[kind](org, event, where)


def recharged(org, event, where):
    amount = Decimal(event["amount"])
    once(org, where, "recharge", event["reference"])
    org["recharges"][event["recharge"]] = [amount, ZERO, None]
    org["cash"] += amount
    org["cumulative_recharge"] += amount
    move(org, where, "recharge", event, "assets:received", event["recharge"], cash=amount)


def refunded(org, event, where):
    """Unused cash only: the lesser of the request and of what there is here."""
    once(org, where, "refund", event["reference"])
    requested = Decimal(event["requested"])
    paid = min(requested, max(org["cash"], ZERO))
    if event["recharge"] is not None:
        recharge = org["recharges"][event["recharge"]]
        recharge[1] += paid
        if recharge[1] > recharge[0]:
            complain(where, "more is refunded than was recharged")
    org["cash"] -= paid
    org["cumulative_recharge"] -= paid
    about = event["recharge"]
    move(org, where, "refund", event, "assets:refunded", event["refund"], cash=-paid, about=about, memo=requested)


def recharge_reversed(org, event, where):
    amount = Decimal(event["amount"])
    once(org, where, "recharge_reversal", event["reference"])
    recharge = org["recharges"][event["recharge"]]
    recharge[1] += amount
    if recharge[1] > recharge[0]:
        complain(where, "more is charged back than was recharged")
    org["cash"] -= amount
    org["cumulative_recharge"] -= amount
    identity, about = event["reversal"], event["recharge"]
    move(org, where, "recharge_reversal", event, "assets:charged_back", identity, cash=-amount, about=about)


def adjusted(org, event, where):
    amount = Decimal(event["amount"])
    once(org, where, "adjustment", event["reference"])
    org["cash"] += amount
    identity, about = event["adjustment"], event["corrects"]
    move(org, where, "adjustment", event, "expenses:adjustments", identity, cash=amount, about=about)


def voucher_granted(org, event, where):
    amount, identity = Decimal(event["amount"]), event["voucher"]
    expires = None if event["expires_at"] is None else instant(event["expires_at"])
    account = "equity:moved_in" if event["origin"] == "moved_in" else "expenses:promotion"
    if event["origin"] == "operator":
        once(org, where, "voucher_grant", event["reference"])
    if event["origin"] == "policy":
        if org["policy_voucher"] is not None:
            complain(where, "the policy's voucher is granted twice")
        org["policy_voucher"] = identity
    grant(org, identity, amount, expires, where, event["origin"] == "policy")
    move(org, where, "voucher_grant", event, account, identity, vouchers=amount)


def voucher_expired(org, event, where):
    for voucher in org["vouchers"]:
        if voucher["id"] == event["voucher"] and (voucher["expires"] is None or voucher["expires"] > now):
            complain(where, f"{event['voucher']} expires too early")
    left = take_voucher(org, event["voucher"])
    if left:
        move(org, where, "voucher_expiry", event, "income:breakage", event["voucher"], vouchers=-left)


def voucher_withdrawn(org, event, where):
    if org["cumulative_recharge"] < Decimal(event["below"]):
        left = take_voucher(org, event["voucher"])
        if left:
            move(org, where, "voucher_withdrawal", event, "expenses:promotion", event["voucher"], vouchers=-left)


def usage_reversed(org, event, where):
    """Comes back in reverse order of spending: first cash, as far as any was spent, the rest as a voucher."""
    booked = event["booked"]
    cost = Decimal(booked["cost"])
    if event["usage"] in org["reversed"]:
        complain(where, f"{event['usage']} is taken back twice")
    org["reversed"].add(event["usage"])
    said = (org, booked["day"], booked["project"], booked["model"], booked["api_key"], figures(booked, 1), cost)
    if booked_at.get(event["usage"]) != said:
        complain(where, f"{event['usage']} is taken back and was not booked so")
    cash = min(cost, org["spent_cash"])
    rest = cost - cash
    org["cash"] += cash
    org["spent_cash"] -= cash
    org["spent"] -= cost
    if rest:
        grant(org, "vou_" + event["reversal"].split("_", 1)[1], rest, None, where)
    post(org, "income:usage", cost)
    books = open_month(org)
    books["usage"][0] -= cash
    books["usage"][1] -= rest
    move(org, where, "usage_reversal", event, "income:usage", event["reversal"], about=event["usage"], memo=cost)
    consume(
        org, booked["day"], booked["project"], booked["model"], booked["api_key"], figures(booked, -1), -cost
    )


def moved_in(org, event, where):
    cash = Decimal(event["cash"])
    org["cash"] += cash
    org["cumulative_recharge"] += Decimal(event["cumulative_recharge"])
    if event["voucher_granted"]:
        org["policy_voucher"] = "before"
    for reference in event["references"]:
        once(org, where, "recharge", reference)
    memo = Decimal(event["cumulative_recharge"])
    move(org, where, "opening_balance", event, "equity:moved_in", cash=cash, memo=memo)


def invoice_issued(org, event, where):
    """Every recharge once, less what was taken back of it before; documents are numbered without gaps."""
    next_document(org, event, where)
    if event["month"] in org["invoiced"]:
        complain(where, f"{event['month']} is invoiced twice")
    org["invoiced"].add(event["month"])
    if event["month"] >= month_of(day_in(org["zones"], now)):
        complain(where, f"{event['month']} is invoiced before it is over")
    for row in event["recharges"]:
        recharge = org["recharges"][row["recharge"]]
        if recharge[2] is not None:
            complain(where, f"{row['recharge']} is invoiced twice")
        recharge[2] = event["invoice"]
        if Decimal(row["amount"]) != recharge[0] - recharge[1]:
            complain(where, f"{row['recharge']} is invoiced with {row['amount']}")
    memo = sum((Decimal(row["amount"]) for row in event["recharges"]), ZERO)
    move(org, where, "invoice", event, "assets:received", event["invoice"], about=event["month"], memo=memo)


def credit_note_issued(org, event, where):
    returned = [m for books in org["months"].values() for m in books["movements"] if m["id"] == event["movement"]]
    if returned and returned[0]["cash"] < 0:
        next_document(org, event, where)
        identity, about, memo = event["credit_note"], event["invoice"], -returned[0]["cash"]
        move(org, where, "credit_note", event, "assets:refunded", identity, about=about, memo=memo)


def next_document(org, event, where):
    org["documents"] += 1
    if event["number"] != org["documents"]:
        complain(where, f"document {event['number']} where {org['documents']} is due")


def statement_sealed(org, event, where):
    if event["month"] in org["sealed"]:
        complain(where, f"{event['month']} is sealed twice")
    if event["month"] >= month_of(day_in(org["zones"], now)):
        complain(where, f"{event['month']} is sealed before it is over")
    org["sealed"][event["month"]] = event["sha256"]


# Reasons for which a record's number was not looked at, or could not be counted. Of one that is behind nobody can tell.
UNCOUNTED = ("unreadable", "organization_mismatch", "unknown_organization", "sequence_ahead")


def released(org, event, where):
    """A quarantined record, mended, is booked as if it came now; where it still cannot be, it stays."""
    usage, held = event["usage"], quarantine.get(event["id"])
    if held is None:
        complain(where, f"{event['id']} is not in quarantine")
        return
    occurred = instant(usage["time"])
    if "producerseq" in usage and held[0] in UNCOUNTED:
        told = counted(org, usage["source"], int(usage["producerseq"]))
        if told in ("duplicate", "sequence_ahead"):
            return  # it came again since and was booked, or could be once more
    if "producerseq" not in usage and held[0] in UNCOUNTED:
        identity = (usage["organization"], usage["source"], usage["id"])
        if first_seen.setdefault(identity, (content(usage), event["id"]))[1] != event["id"]:
            return  # the same id came by another way, and that one counts
    project, key, fault = payer(org, usage)
    cost, unpriced = (None, None) if fault else cost_of(org, usage, occurred)
    if fault or unpriced or occurred > now + AHEAD or org["spent"] + cost > MOST:
        return
    if "producerseq" in usage:
        count(org, usage["source"], int(usage["producerseq"]))
    org["settled"] += 1
    del quarantine[event["id"]]
    book(org, usage, project, key, cost, occurred, event["id"])


def dismissed(org, event, where):
    if quarantine.pop(event["id"], None) is None:
        complain(where, f"{event['id']} is not in quarantine")
    org["settled"] += 1


MONEY = {
    "recharge.booked": recharged,
    "refund.booked": refunded,
    "recharge.reversed": recharge_reversed,
    "adjustment.booked": adjusted,
    "voucher.granted": voucher_granted,
    "voucher.expired": voucher_expired,
    "voucher.withdrawn": voucher_withdrawn,
    "usage.reversed": usage_reversed,
    "organization.moved_in": moved_in,
    "invoice.issued": invoice_issued,
    "credit_note.issued": credit_note_issued,
    "statement.sealed": statement_sealed,
    "quarantine.released": released,
    "quarantine.dismissed": dismissed,
}


def check_policy_voucher(org, before, highest, events, where):
    """Granted with the recharge that first reaches the threshold, once; withdrawn when it is no longer reached."""
    kinds = [event["type"] for event in events]
    reached = highest < policy["threshold"] <= org["cumulative_recharge"]
    earned = "recharge.booked" in kinds and policy["amount"] > 0 and reached
    if earned and org["policy_voucher"] is None:
        complain(where, "the policy's voucher is earned and not granted")
    for event in events:
        if event["type"] == "voucher.granted" and event["origin"] == "policy":
            if not earned or Decimal(event["amount"]) != policy["amount"]:
                complain(where, "a voucher is granted that the policy does not give")
    taken_back = "refund.booked" in kinds or "recharge.reversed" in kinds
    left = any(voucher["policy"] for voucher in org["vouchers"])
    if taken_back and left and org["cumulative_recharge"] < policy["threshold"] <= before:
        complain(where, "the policy's voucher is kept below the policy's threshold")


# ---- the log -----------------------------------------------------------------------------------------------------


def status_of(line):
    """applied, copy, voided or foreign, as it follows from what stands before."""
    global now
    if "entry" not in line:
        return "foreign"
    kinds = {event["type"] for event in line.get("events", [])}
    if not created and "ledger.created" not in kinds:
        return "foreign"
    if line["entry"] in entries:
        return "copy"
    entries.add(line["entry"])
    now = max(now, instant(line["recorded_at"]))
    if "term" not in line:
        return "applied"
    taken = [event["term"] for event in line["events"] if event["type"] == "partition.ownership_taken"]
    if taken:
        return "applied" if taken[0] > term else "voided"
    return "applied" if line["term"] == term else "voided"


def follow(line):
    global usage_records
    status = status_of(line)
    if status != line["status"]:
        complain(line["position"], f"{line['status']} where {status} is right")
    if status != "applied":
        return
    if "usage" in line:
        usage_entry(line)
    elif "unreadable" in line:
        for refused in line["unreadable"]:
            usage_records += 1
            hold(f"{line['position']}.{refused['row']}", "unreadable", refused["organization"], None)
    elif ".org." in line["subject"]:
        organization_entry(line)
    else:
        for event in line["events"]:
            config_event(event, line["position"], instant(line["recorded_at"]), line["cause"]["kind"] == "copy")


# ---- what it came to ---------------------------------------------------------------------------------------------


def text(amount):
    """Without exponent and without zeros at the end."""
    plain = f"{amount:f}"
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if plain in ("-0", "") else plain


def pair(amounts):
    return {"cash": text(amounts[0]), "vouchers": text(amounts[1])}


def shown(cell):
    meters = {meter: units for meter, units in cell["meters"].items() if units}
    return {**cell, "meters": meters, "cost": text(cell["cost"])}


def is_something(cell):
    return any(cell["meters"].values()) or any(figure for name, figure in cell.items() if name != "meters")


def rows(org, names, key):
    """Cells summed by what `key` makes of (booking month, day, project, model, key)."""
    sums = {}
    for cell, some in org["cells"].items():
        add(sums.setdefault(key(*cell), {}), some)
    kept = sorted((cell for cell in sums if is_something(sums[cell])), key=lambda cell: [part or "" for part in cell])
    return [{**dict(zip(names, cell)), **shown(sums[cell])} for cell in kept]


def tier_of(recharge):
    table = DEFAULT_TIERS
    begun = [begin for begin in tiers if begin <= now]
    if begun:
        table = tiers[max(begun)]
    reached = [name for name, least in table if recharge >= least]
    return reached[-1] if reached else None


def statement(name, org, month, usage):
    books = org["months"][month]
    lines = [line for line in usage if line["month"] == month]
    for number, purse in enumerate(("cash", "vouchers")):
        moved = sum((line[purse] for line in books["movements"]), ZERO)
        if books["opening"][number] + moved - books["usage"][number] != books["closing"][number]:
            complain(month, f"the statement of {name} does not add up")
    document = statement_csv(name, month, books, lines)
    sha256 = hashlib.sha256(document).hexdigest()
    if org["sealed"].get(month, sha256) != sha256:
        complain(month, f"the statement of {name} is not the one that was sealed")
    return {
        "opening": pair(books["opening"]),
        "movements": [shown_movement(line) for line in books["movements"]],
        "usage": pair(books["usage"]),
        "usage_rows": [{part: line[part] for part in line if part != "month"} for line in lines],
        "closing": pair(books["closing"]),
        "sha256": sha256,
    }


def shown_movement(line):
    amounts = {name: text(line[name]) for name in ("cash", "vouchers")}
    memo = None if line["memo"] is None else text(line["memo"])
    return {**line, **amounts, "memo": memo, "after": pair(line["after"])}


COLUMNS = (
    "organization month currency line position time kind id relates_to number reference reason memo cash vouchers"
    " cash_after vouchers_after usage_month project model requests input_tokens cached_input_tokens output_tokens"
    " meters cost"
).split()


def statement_csv(name, month, books, usage):
    """To the byte, because that is what is sealed."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\r\n")

    def put(line, **fields):
        lead = {"organization": name, "month": month, "currency": currency, "line": line}
        writer.writerow({**lead, **{field: value for field, value in fields.items() if value is not None}})

    def amounts(cash, vouchers, suffix=""):
        return {"cash" + suffix: text(cash), "vouchers" + suffix: text(vouchers)}

    writer.writeheader()
    put("opening", **amounts(*books["opening"], "_after"))
    for line in books["movements"]:
        fields = {field: shown for field, shown in shown_movement(line).items() if field != "after"}
        put("movement", **{**fields, **amounts(*line["after"], "_after")})
    total = {"requests": 0, "input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0, "meters": {}, "cost": ZERO}
    for line in usage:
        fields = {field: line[field] for field in ("project", "model")}
        counts = {field: line[field] for field in total}
        put("usage", usage_month=line["occurred_in"], **{**fields, **counts, "meters": shown_meters(line["meters"])})
        add(total, {**counts, "cost": Decimal(line["cost"])})
    took = {**total, "meters": shown_meters(total["meters"]), "cost": text(total["cost"])}
    put("used", **amounts(-books["usage"][0], -books["usage"][1]), **took)
    put("closing", **amounts(*books["closing"], "_after"))
    return out.getvalue().encode()


def shown_meters(meters):
    some = {meter: units for meter, units in sorted(meters.items()) if units}
    return json.dumps(some, separators=(",", ":"), ensure_ascii=False) if some else ""


def spend_of(amounts):
    return [
        {"project": project, "day": day, "cost": text(cost)} for (project, day), cost in sorted(amounts.items()) if cost
    ]


def shown_organization(name, org):
    cash, vouchers = balance(org)
    by_occurrence = ("month", "occurred_in", "project", "model")
    usage = rows(org, by_occurrence, lambda month, day, project, model, key: (month, day[:7], project, model))
    spend = rows(org, ("day", "project", "model", "api_key"), lambda month, *cell: tuple(cell))
    return {
        "today": day_in(org["zones"], now).isoformat(),
        "cash": text(cash),
        "available": text(vouchers + max(cash, ZERO)),
        "vouchers": [
            {"id": v["id"], "left": text(v["left"]), "expires_at": v["expires"]} for v in burn_order(org)
        ],
        "cumulative_recharge": text(org["cumulative_recharge"]),
        "voucher_granted": org["policy_voucher"] is not None,
        "tier": tier_of(org["cumulative_recharge"]),
        "credit_limit": org["credit_limit"],
        "spent": text(org["spent"]),
        "booked": org["booked"],
        "duplicates": org["duplicates"],
        "quarantined": org["quarantined"],
        "settled": org["settled"],
        "documents": org["documents"],
        "pending": spend_of(org["pending"]),
        "settled_spend": spend_of(org["settled_spend"]),
        "spend": spend,
        "statements": {month: statement(name, org, month, usage) for month in sorted(org["months"]) if used(org, month)},
    }


def used(org, month):
    """Whether anything was booked in a month."""
    return bool(org["months"][month]["movements"]) or any(cell[0] == month for cell in org["cells"])


def trial_balance():
    trial = dict.fromkeys(ACCOUNTS, ZERO)
    for org in organizations.values():
        cash, vouchers = balance(org)
        trial["assets:receivable"] += max(-cash, ZERO)
        trial["liabilities:cash"] -= max(cash, ZERO)
        trial["liabilities:vouchers"] -= vouchers
        for account, amount in org["totals"].items():
            trial[account] += amount
    return trial


def shown_partition(books, number):
    books["partitions"][number] = {"recorded_at": now, "term": term, "usage_records": usage_records}
    books["quarantine"].update((where, held[0]) for where, held in quarantine.items())
    books["organizations"].update((name, shown_organization(name, org)) for name, org in sorted(organizations.items()))
    for account, amount in trial_balance().items():
        books["trial_balance"][account] += amount


def main():
    books = {"partitions": {}, "quarantine": {}, "organizations": {}, "complaints": complaints}
    books["trial_balance"] = dict.fromkeys(ACCOUNTS, ZERO)
    partition = None
    global currency
    with open(sys.argv[1]) if sys.argv[1:] else sys.stdin as lines:
        for line in map(json.loads, lines):
            if line.get("type") != "partition":
                follow(line)
                continue
            if partition is not None:
                shown_partition(books, partition)
            partition, currency = str(line["partition"]), line["currency"]
            begin()
    shown_partition(books, partition)
    if sum(books["trial_balance"].values(), ZERO) != 0:
        complain("trial balance", "it does not sum to zero")
    books["trial_balance"] = {account: text(amount) for account, amount in books["trial_balance"].items()}
    json.dump(books, sys.stdout, indent=1)


if __name__ == "__main__":
    main()

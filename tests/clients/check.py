"""Tryton's module for Taler and taler-util, as they are on PyPI, against the shop that the environment names. What the
module imports of Tryton is stood for by empty classes; what it sends and how it reads replies is its own."""

import datetime
import decimal
import http
import json
import os
import sys
import types

URL, TOKEN = os.environ["SHOP_URL"], os.environ["SHOP_TOKEN"]
PREFIX = "secret-token:"


class Whatever:
    """Is called, asked for members and combined with others while the module's classes are made."""

    def __call__(self, *args, **kwargs):
        return self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __invert__(self):
        return self

    def __and__(self, other):
        return self

    __or__ = __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = __and__
    __hash__ = object.__hash__


def undecorated(*args, **kwargs):
    """Stands for decorators, with arguments or without."""
    if len(args) == 1 and not kwargs and (callable(args[0]) or isinstance(args[0], (classmethod, staticmethod))):
        return args[0]
    return lambda method: method


class Decorating(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return undecorated


def base(name):
    return Decorating(name, (), {})


class Stub(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Whatever()


def stub(name, **members):
    module = Stub(name)
    module.__dict__.update(members)
    sys.modules[name] = module
    parent, _, own = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], own, module)


class UserError(Exception):
    pass


class PoolMeta(Decorating):
    pass


trytond = types.ModuleType("trytond")
# The module itself lies in this package.
trytond.__path__ = [os.path.join(path, "trytond") for path in sys.path if os.path.isdir(os.path.join(path, "trytond"))]
sys.modules["trytond"] = trytond
modules = types.ModuleType("trytond.modules")
modules.__path__ = [os.path.join(path, "modules") for path in trytond.__path__]
sys.modules["trytond.modules"] = trytond.modules = modules
own = types.ModuleType("trytond.modules.account_payment_taler")
# Its own start-up registers it with Tryton.
own.__path__ = [os.path.join(path, "account_payment_taler") for path in modules.__path__]
sys.modules["trytond.modules.account_payment_taler"] = modules.account_payment_taler = own
stub("trytond.config")
stub("trytond.exceptions", UserError=UserError, UserWarning=UserError)
stub("trytond.i18n")
stub("trytond.model", dualmethod=undecorated, **{
    name: base(name) for name in ["DeactivableMixin", "ModelSQL", "ModelView", "Workflow"]})
for name in ["account_payment", "company", "currency"]:
    stub(f"trytond.modules.{name}")
stub("trytond.modules.account_payment.exceptions", PaymentValidationError=UserError)
stub("trytond.modules.company.model", reset_employee=undecorated, set_employee=undecorated)
stub("trytond.modules.currency.fields")
stub("trytond.pool", PoolMeta=PoolMeta)
stub("trytond.protocols")
stub("trytond.protocols.wrappers", HTTPStatus=http.HTTPStatus)
for name in ["pyson", "sendmail", "tools", "tools.email_", "transaction"]:
    stub(f"trytond.{name}")
stub("trytond.url", http_host=lambda: "https://tryton.example")
stub("trytond.report", Report=base("Report"))
stub("trytond.wizard", Wizard=base("Wizard"))

from taler.util.amount import Amount  # noqa: E402
from trytond.modules.account_payment_taler import payment as tryton  # noqa: E402
from trytond.modules.account_payment_taler.exceptions import OrderGone, TalerError  # noqa: E402


def equal(found, expected, what):
    if found != expected:
        sys.exit(f"{what}: {found!r} is not {expected!r}")


def account(token):
    made = tryton.TalerMerchantAccount()
    made.name, made.merchant_url, made.access_token = "shop", URL + "/", token.removeprefix(PREFIX)
    made.webhook_identifier = None
    for delay in ["default_pay_delay", "default_refund_delay", "default_wire_transfer_delay"]:
        setattr(made, delay, None)
    made.enforced_currency = None
    return made


# The wizard: is it there, may I, what are its delays; then a token of its own.
shop = account(TOKEN)
shop._test_merchant_connection()
equal(shop.default_pay_delay, datetime.timedelta(days=1), "pay delay")
try:
    account(PREFIX + "nobody-has-this-one-at-all")._test_merchant_connection()
    sys.exit("a wrong token was taken")
except tryton.requests.exceptions.HTTPError as error:
    equal(error.response.status_code, 401, "a wrong token")
made = shop.retrieve_access_token()
shop.access_token = made["access_token"].removeprefix(PREFIX)
equal(made["refreshable"], True, "refreshable")
if made["expiration"]["t_s"] == "never":
    sys.exit("a token for ever")

# An order as the module writes it: absent members are null.
payment = tryton.Payment()
payment.journal = types.SimpleNamespace(taler_account=shop)
payment.currency = types.SimpleNamespace(code="KUDOS")
payment.amount, payment.description = decimal.Decimal("12.50"), "Boots"
payment.taler_fulfillment_url, payment.taler_fulfillment_message = None, "Thank you"
payment.taler_pay_deadline = payment.taler_refund_deadline = payment.taler_wire_transfer_deadline = None
data = shop.create_order(payment._taler_order_parameters())
status = shop.get_order(data["order_id"])
equal(status["order_status"], "unpaid", "status")
payment.state = "processing"
equal(payment.taler_update(status), True, "an update")
uri = status["taler_pay_uri"]
if not uri.startswith("taler+http://pay/") and not uri.startswith("taler://pay/"):
    sys.exit(f"no pay URI: {uri}")
if "total_amount" in status:
    total = Amount.parse(status["total_amount"])
    equal((total.currency, total.value, total.fraction), ("KUDOS", 12, 50_000_000), "the amount read")
    equal(str(total), status["total_amount"], "the amount written")
try:
    shop.get_order("none")
    sys.exit("an order that does not exist was found")
except OrderGone:
    pass
try:
    shop.create_order({"order": {"amount": "KUDOS:1"}})
    sys.exit("an order without a summary was taken")
except TalerError as error:
    if not str(error):
        sys.exit("no hint")

# A paid one, refunded in two steps; amounts are taler-util's.
paid = os.environ["PAID_ORDER"]
status = shop.get_order(paid)
equal(status["order_status"], "paid", "status of the paid order")
payment.__class__.succeed = classmethod(lambda cls, payments: None)
equal(payment.taler_update(status), True, "an update")
granted = Amount.parse("KUDOS:0")
for step in ["KUDOS:1.50", "KUDOS:0.25"]:
    granted = granted + Amount.parse(step)
    reply = shop.create_refund(paid, {"refund": str(granted), "reason": "wrong size"})
    if "refund/" not in reply["taler_refund_uri"]:
        sys.exit(f"no refund URI: {reply}")
status = shop.get_order(paid)
equal(Amount.parse(status["refund_amount"]), granted, "refunded")
sum_of_details = Amount.parse("KUDOS:0")
for detail in status["refund_details"]:
    sum_of_details = sum_of_details + Amount.parse(detail["amount"])
equal(sum_of_details, granted, "the refunds in detail")
try:
    shop.create_refund(paid, {"refund": "KUDOS:1000", "reason": "too much"})
    sys.exit("more was refunded than paid")
except TalerError:
    pass
if os.environ.get("WEBHOOKS"):
    shop._new_webhook_identifier = lambda: "a" * 32
    shop._webhook_endpoint = lambda identifier: "https://tryton.example/" + identifier
    shop._configure_backend_webhooks()
print(json.dumps({"order": data["order_id"], "refunded": str(granted)}))

"""Wordings for the triage example: what customers write, as small grammars.

`[a|b]` is a choice (nesting allowed); `{slot}` is filled by data.py. Text outside slots may get typos, slot
values never do. `{thing}` becomes "the <product>", or a pronoun when the message names no product; `{ref}`
becomes an order reference, or nothing.

What both training stages see is in wordings.py. CORE_NEW occurs in held-out cases of the slice "new wording" only.
"""

CORE_NEW: dict[str, tuple[str, ...]] = {
    "refund": (
        "Would it be possible to have the {price} I paid for {thing} returned to me{ref}?",
        "I've decided to give {thing} back{ref}; how do I go about being reimbursed?",
        "It has been a month since {thing} was returned and nobody has paid me back{ref}!",
        "My bank shows no refund yet although you got {thing} back ages ago{ref}.",
        "{thing} went back because it is too small. Still no money on my card{ref}.",
        "Two payments of {price} left my account for {thing}{ref}, I want one refunded.",
        "Please credit the full amount for {thing}{ref}, I will send it back tomorrow.",
    ),
    "delivery_status": (
        "Could someone let me know when to expect {thing}{ref}?",
        "A week has passed and there's no sign of {thing}{ref}, is it on its way?",
        "I stayed at home all day but the courier with {thing} never came{ref}.",
        "Did you already hand {thing} to the carrier{ref}? The tracking says nothing.",
        "I would like to know how far {thing} has come{ref}, the parcel was due on {date}.",
        "Still no delivery of {thing}{ref}. What day will it be here?",
        "Please find out what happened to the shipment of {thing}{ref}, it never arrived.",
    ),
    "damaged_item": (
        "Upon opening the package I noticed that {thing} was badly scratched{ref}.",
        "The driver must have dropped it: {thing} is cracked down the middle{ref}.",
        "I am sorry to tell you that {thing} reached me in a broken state{ref}.",
        "Half of {thing} is smashed{ref}, the box looked crushed as well.",
        "What came out of the box was a dented mess{ref}. It is about {thing}.",
        "Please replace {thing}{ref}, it has a dent and the glass is in pieces.",
        "Poor packaging! {thing} got damaged on its way to me{ref}.",
    ),
    "cancel_order": (
        "Is there any way to take back my order for {thing}{ref}? Please cancel if so.",
        "Forget about {thing}{ref}, we do not need it any more, so please don't ship it.",
        "Kindly confirm that {thing} will be cancelled{ref}.",
        "We bought {thing} somewhere else in the meantime{ref}, so cancel ours.",
        "I made a mistake when ordering {thing}{ref}, can the order be stopped?",
        "Before you pack {thing}{ref}: I do not want it any longer, cancel please.",
        "My wife ordered {thing} as well{ref}, so mine should be cancelled.",
    ),
    "change_address": (
        "We live somewhere else now{ref}: {address}. Please bring {thing} there.",
        "Could you see to it that {thing} goes to {address} rather than to my old flat{ref}?",
        "There is a mistake in the street name for {thing}{ref}, {address} would be correct.",
        "Since I am moving on {date}, have {thing} delivered to {address}{ref}.",
        "Please note my new address for {thing}{ref}. {address}.",
        "I'd prefer to get {thing} at my office, that is {address}{ref}.",
        "Wrong address on {thing}{ref}! Change to {address}.",
    ),
    "invoice_copy": (
        "Our accountant is missing the receipt for {thing}{ref}, could I have it by email?",
        "Be so kind and mail me the paperwork, I mean the invoice for {thing}{ref}.",
        "I looked everywhere but there is no bill for {thing}{ref}. Send me one?",
        "The tax office wants to see an invoice for {thing}{ref}.",
        "How do I get a printed receipt of what I paid for {thing}{ref}?",
        "A copy of the bill of {thing} would help me a lot{ref}.",
        "Please write me a new invoice for {thing} with our company name on it{ref}.",
    ),
    "technical_help": (
        "Nothing happens when I press the start button on {thing}{ref}.",
        "Could you explain to me how to connect {thing} to my phone{ref}?",
        "Every few minutes {thing} switches off by itself{ref}, is there a setting for this?",
        "I read the whole manual and still don't know how to reset {thing}{ref}.",
        "The battery of {thing} does not charge any more since the update{ref}.",
        "There's an error on the display of {thing}{ref}, how do I make it work again?",
        "Help, {thing} lost the wifi connection and won't find it again{ref}.",
    ),
    "other": (
        "Will you have {thing} in a smaller size again{ref}?",
        "Big compliment to your team, we are really happy with {thing}{ref}!",
        "Which days is your shop in {city} open?",
        "My discount code for {thing} is not accepted, how can I use it{ref}?",
        "Please stop sending me your newsletter.",
        "Does {thing} come in black too, and what does it cost{ref}?",
        "Is there an open job for a student in your {city} store?",
        "Good evening, how are you today?",
    ),
}

# Frames around the core sentence. Held-out "new wording" cases mix both columns.
GREETING = (
    "Hello,",
    "Hi,",
    "Hi there,",
    "Dear team,",
    "Good morning,",
    "Hey,",
    "Dear Sir or Madam,",
    "Hello {person},",
    "Hello {person},",
    "Good [day|evening|afternoon][ {person}| everybody| to you|],",
    "[Dear|Hi|Hello] [support|customer service|people|friends|all|shop team],",
    "[Dear|Hi] {person},",
    "To whom it may concern,",
    "Hiya,",
)
GREETING_NEW = ("Greetings,", "Hello dear support,", "Good day {person},", "Hi folks,")

REF = (
    " (order {order})",
    " (order no. {order})",
    ", order {order}",
    ", order number {order}",
    " [from|in|with|under] order {order}",
    ", {order}",
    " (#{order})",
    " - order #{order}",
    " ([ref|ref.|my order|number|the order is] {order})",
    ", [that is|this is|it's|I mean|see] [order|number|my order] {order}",
    " ([reference|order ID|order code]: {order})",
    ", [reference|ref] {order}",
)
REF_NEW = (" (my order: {order})", ", it is order {order}", " (reference {order})")

ORDER_LINE = (
    "[My|The] order number is {order}.",
    "Order [number|no.|#|]: {order}",
    "It is [about|for] order {order}.",
    "Order {order}.",
    "[The number on the confirmation is|Confirmation says] {order}.",
    "I ordered it under {order}[ on {date}|].",
    "[Ref|Reference|Order ref|Order ID|My order|Order code]: {order}",
    "{order} is [the|my] order [number|code|].",
    "[You can find|Please look up|Look for|See] [the order|it|order] [as|with|by|] {order}.",
    "[The order in question is|We are talking about|It concerns order|This concerns] {order}.",
    "[It has|With|It carries] the order [number|code] {order}.",
)
ORDER_LINE_NEW = (
    "The order has the number {order}.",
    "You'll find it under order {order}.",
    "Number of the order: {order}",
)

NAME_LINE = (
    "My name is {name}.",
    "I'm {name}.",
    "This is {name}[ from {city}|].",
    "Name: {name}",
    "The order [is in|is under|was in] the name of {name}.",
    "[Customer|Account holder|Account name]: {name}.",
    "{name} [here|speaking|is my name|is writing].",
    "[You know me as|I go by|People call me|They call me] {name}.",
    "[My account|The account|My profile] [runs under|is on|belongs to|says] {name}.",
    "[From|Sender|Buyer|Client|Written by|Signed]: {name}",
    "I [bought|ordered|paid] as {name}.",
    "[Registered as|Registered under|Booked under|Filed under] {name}.",
    "[Hello|Hi], {name} [again|here].",
    "You [find|have|can find] me [under|as] {name}[ in your system|].",
    "[The customer|The buyer|The person writing] is {name}.",
)
NAME_LINE_NEW = ("I am called {name}.", "You have me in your files as {name}.", "Writing to you: {name}.")

SIGNATURE = (
    "[Thanks|Thank you|Many thanks|Cheers], {name}",
    "[Best regards|Kind regards|Regards|Best|Greetings], {name}",
    "[Best regards|Kind regards|Yours sincerely|Thanks],\n{name}",
    "{name}",
    "- {name}",
    "[Thanks|Yours], {name}, {city}",
    "[Have a good|Enjoy your|Have a great|Wishing you a fine] [day|week|weekend|evening], {name}",
    "[Best wishes|Warm regards|Sincerely|Yours truly|Take care|Bye|See you|Respectfully|Cordially],[ |\n]{name}",
    "[With|My] [best|kind|friendly] [regards|greetings|thanks],[ |\n]{name}",
    "[Looking forward to your answer|Hope to hear from you|Until then|Waiting for news|All good things],[ |\n]{name}",
    "[Thx|Thanks a lot|Thanks again|Thank you so much|Ta|Ciao] {name}",
    "[Love|Yours|Sent by|Signed|Your customer],[ |\n]{name}",
)
SIGNATURE_NEW = ("Have a nice day, {name}", "With kind wishes,\n{name}", "All the best, {name}")

CLOSING = (
    "All right then.",
    "Have a good day!",
    "Best wishes",
    "Take care",
    "Bye!",
    "Thanks!",
    "Thank you.",
    "Best regards",
    "Please reply soon.",
    "Thanks in advance!",
    "Regards",
    "Cheers",
)

DISTRACTOR = (
    "I also [bought|ordered|have] a {product2}, [that one is fine|which is fine|no problem with that one].",
    "The {product2} [from last time|I bought in {month}] [was great|was fine|works well].",
    "I [spoke to|talked to|called] {person} [on the phone|last week|on {date}] [about it|but nothing happened|].",
    "Your colleague {person} [told me to write here|could not help me|promised to call back].",
    "It [is|was] a [present|gift] for my [sister|brother|mother|friend] {person}.",
    "[You can reach me at|Call me at|My phone number is|Phone:] {phone}.",
    "[It cost|I paid] {price}[ by card| by bank transfer|].",
    "[I bought|I ordered|Bought|Ordered] it on {date}[ in your shop in {city}| for {price}|].",
    "My customer number is {customer}.",
    "The [parcel|tracking] number is {tracking}.",
    "[I have been a customer for years.|This is the second time I write.|I am a bit annoyed.|It is raining here in "
    "{city}.|Sorry to bother you.|I hope you are well.|My kids were looking forward to it.|I only have time on "
    "weekends.]",
    "[My email is|Write to me at|You can write to] {email}.",
    "My [wife|friend|boss|neighbour|daughter|uncle|cousin|partner] {person} [says hello|asked me to write|likes it "
    "too|recommended your shop|thinks so too|wanted me to ask].",
    "[Besides|On another note|Also|And], [the|my] {product2} [is working well|works fine|is great|arrived in good "
    "order].",
    "[If needed|For questions|If you want to talk|In case of doubt], [call|ring|phone|my mobile is|the number is] "
    "{phone}.",
    "[I have shopped|We have ordered|I have bought] [here|with you|at your shop] since {month}.",
    "[{person} from your team|A lady named {person}|Mr {person}|Someone called {person}] [was very kind|did not "
    "know either|said to wait|took my call].",
    "[No need to call me|No hurry|Please answer quickly|It is urgent], [thanks|I am at work until five|I leave on "
    "{date}].",
)
DISTRACTOR_NEW = (
    "By the way, the {product2} is working fine.",
    "My husband {person} told me to write to you.",
    "If you have questions, my number is {phone}.",
    "We have been shopping with you since {month}.",
)

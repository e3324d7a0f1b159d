"""What the encyclopedia can tell: eight kinds of entry, their relations, and every phrasing.

Slots of a template (the first letter of a sentence is capitalized afterwards):
    {s} the entry as a subject      "Crystalton", "it", "the town", "she"
    {o} the entry as an object      "Crystalton", "it", "the town", "her"
    {p} the entry as a possessive   "Crystalton's", "its", "the town's", "her"
    {v} the value

A relation is told by `clauses` (verb phrases, joined to a subject and to each other) and by `says`
(whole sentences), and asked by `asks`. Its answer is the entry's name with the first clause.

Two rules keep every question answerable in one way: no relation is another one's inverse, and no
filler sentence tells what a relation could ask. `unlisted` are questions that no document answers.
"""

from dataclasses import dataclass, field

MONTHS = "January February March April May June July August September October November December".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
COUNTS = "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
COLOURS = ("red blue green yellow white black grey brown orange purple silver golden crimson scarlet turquoise violet "
           "pink cream").split()
PRODUCTS = ("candles|lace|clocks|glass|rope|paper|barrels|knives|carpets|bells|boots|cheese|honey|salt|cider|wool|"
            "pottery|violins|umbrellas|soap|hats|lanterns|buttons|baskets|maps|tiles|ink|saddles|mirrors|needles|"
            "gloves|chairs|kites|brushes|locks|sails|vinegar|mustard|nails|combs").split("|")
JOBS = ("baker|clockmaker|botanist|painter|surveyor|lawyer|sculptor|teacher|carpenter|geologist|poet|doctor|weaver|"
        "engineer|astronomer|printer|gardener|potter|historian|chemist|judge|tailor|beekeeper|architect|librarian|"
        "shepherd|blacksmith|composer|translator|locksmith|dentist|glassblower|miller|cartographer|singer|"
        "photographer|mathematician|brewer|nurse|bookbinder").split("|")
INSTRUMENTS = ("violin|flute|harp|cello|trumpet|organ|lute|clarinet|drum|piano|oboe|guitar|accordion|bassoon|horn|"
               "mandolin|zither|viola|banjo|recorder").split("|")
ANIMALS = ("fox|owl|heron|bear|otter|stag|wolf|swan|lion|raven|hare|badger|eagle|salmon|bee|horse|goat|falcon|crane|"
           "boar|squirrel|tortoise|dolphin|beetle|lynx|stork|rooster|hedgehog|seal|bull").split("|")
PETS = ("cat|parrot|dog|tortoise|goose|goat|rabbit|raven|donkey|hedgehog|ferret|canary|pony|duck|lizard|owl").split("|")
FISH = "trout|salmon|pike|eels|carp|perch|sturgeon|grayling|barbel|bream|roach|tench|chub|lampreys|catfish".split("|")
CARGOES = ("timber|grain|tea|coffee|spices|coal|marble|cotton|wine|sugar|copper|tobacco|silk|oranges|iron ore|olive oil|"
           "rice|furs|slate|leather|bricks|ivory|wax|amber|saltpetre|herring|figs|hemp").split("|")
ROCKS = "granite|basalt|limestone|slate|sandstone|marble|gneiss|chalk|quartzite|dolomite|schist|porphyry".split("|")
GENRES = ("novel|memoir|mystery|travelogue|romance|fable|tragedy|satire|cookbook|field guide|ghost story|play|"
          "biography|adventure story|book of poems|chronicle").split("|")
SPICES = ("saffron|cumin|nutmeg|ginger|paprika|cinnamon|cloves|cardamom|fennel|thyme|sage|mint|dill|juniper|pepper|"
          "rosemary|caraway|anise|turmeric|marjoram").split("|")
INGREDIENTS = ("lentils|barley|pumpkin|lamb|chestnuts|cabbage|trout|mushrooms|apples|beans|rye|goose|leeks|potatoes|"
               "plums|rabbit|beetroot|millet|pork|spinach|crab|turnips|walnuts|chicken|peas|quinces|duck|onions|"
               "carrots|pears").split("|")
SIDES = ("sour cream|pickles|white bread|rice|dumplings|green salad|roasted onions|flatbread|mustard|plum jam|"
         "fried eggs|buttered noodles|yoghurt|cucumber|apple sauce|cheese|horseradish|toasted seeds").split("|")
VESSELS = ("copper pot|clay dish|iron pan|stone oven|glass bowl|tin mould|wooden bowl|cast-iron kettle|baking tray|"
           "steam basket|earthen jar|bread oven").split("|")
WOODS = "oak|pine|elm|teak|larch|cedar|ash|beech|chestnut|walnut|spruce|iron".split("|")


@dataclass(frozen=True)
class Relation:
    key: str
    value: object  # a list to choose from, a (low, high, format) number, or the name of a kind of name
    clauses: list
    says: list
    asks: list
    always: bool = False  # told in every document of its kind
    ask_only_if_told: list = field(default_factory=list)  # too wide for "the documents do not say"


@dataclass(frozen=True)
class Kind:
    key: str
    noun: str
    pronouns: tuple  # of (subject, object, possessive); the entity picks one
    intros: list
    relations: list
    fillers: list
    unlisted: list


IT = (("it", "it", "its"),)

TOWN = Kind("town", "town", IT, [
    "{s} is a small town with {adj} streets", "{s} is a town of {adj} houses", "{s} is an old market town",
    "{s} is a {adj} town", "{s} is a town known to many travellers", "the town of {s} is a {adj} place",
], [
    Relation("region", "region", ["lies in {v}", "is a town in {v}", "belongs to the region of {v}", "is situated in {v}"],
             ["{s} can be found in {v}", "the region around {o} is called {v}"],
             ["In which region does {s} lie?", "What region is {s} in?", "In which region can I find {o}?",
              "Which region does {s} belong to?", "What is the name of the region around {o}?"], always=True,
             ask_only_if_told=["Where is {s}?", "Where is {s}?", "Where does {s} lie?", "Where can I find {o}?"]),
    Relation("river", "river", ["stands on the river {v}", "lies on the banks of the {v}", "was built beside the {v}"],
             ["the river {v} flows past {o}", "{p} houses line both banks of the {v}"],
             ["On which river does {s} stand?", "Which river flows past {o}?", "What is the name of {p} river?",
              "What river was {s} built beside?", "Which river does {s} lie on?"]),
    Relation("founded", (1100, 1899, "plain"),
             ["was founded in {v}", "has existed since {v}", "dates from {v}", "received its charter in {v}"],
             ["settlers founded {o} in {v}", "{p} history begins in {v}"],
             ["When was {s} founded?", "In what year was {s} founded?", "What year does {s} date from?",
              "Since when has {s} existed?", "In which year does {p} history begin?"]),
    Relation("population", (400, 98000, "comma"),
             ["has {v} inhabitants", "is home to {v} people", "counts {v} residents", "has a population of {v}"],
             ["some {v} people live in {o}", "{p} population is {v}"],
             ["How many people live in {o}?", "What is {p} population?", "How many inhabitants does {s} have?",
              "How many residents does {s} count?", "What is the population of {o}?"]),
    Relation("mayor", "person", ["is led by mayor {v}", "has a mayor called {v}", "elected {v} as its mayor"],
             ["{p} mayor is {v}", "the mayor of {o} is {v}", "the office of mayor is held by {v}"],
             ["Who is the mayor of {o}?", "Who is {p} mayor?", "Who leads {o} as mayor?", "What is {p} mayor called?",
              "Whom did {s} elect as mayor?"]),
    Relation("product", PRODUCTS, ["is known for its {v}", "is famous for its {v}", "makes the finest {v} of the country"],
             ["visitors come to {o} for the {v}", "{p} workshops turn out {v}"],
             ["What is {s} known for?", "What is {s} famous for?", "What do {p} workshops make?",
              "What do visitors come to {o} for?", "What does {s} produce?"]),
    Relation("market", WEEKDAYS, ["holds its market on {v}", "has a market every {v}", "keeps {v} as its market day"],
             ["{p} market is held on {v}", "farmers bring their goods to {o} each {v}"],
             ["On which day does {s} hold its market?", "When is {p} market held?", "What is {p} market day?",
              "On what day is the market in {o}?", "Which day is market day in {o}?"]),
], [
    "a fire in {year} destroyed the old hall", "the church tower leans a little", "in {year} a storm carried off the roof of the school",
    "{person} once spent a {adj} winter there", "the streets are {adj} in the evening", "old people still tell stories about the {adj} bridge",
    "the road to {place} is lined with poplars", "the railway came late, in {year}", "the houses are painted every {num} years",
    "children play in the square until dark", "a stone in the square remembers a visit by {person}", "the winters are long and {adj}",
    "the baker opens before sunrise", "the walls were pulled down in {year}", "a painter named {person} liked the light there",
], ["Who painted the town hall of {o}?", "How high is the church tower of {o}?", "What colour is the flag of {o}?",
    "Which language is spoken in {o}?", "How many schools are there in {o}?", "Who built the walls of {o}?",
    "What is the weather like in {o}?"])

RIVER = Kind("river", "river", IT, [
    "{s} is a {adj} river", "{s} is a river with {adj} water", "{s} is one of the {adj} rivers of the north",
    "{s} is a river of many bends", "the river called {s} is {adj} and {adj2}", "{s} is a {adj} river by any measure",
], [
    Relation("source", "mountain", ["rises on {v}", "has its source on {v}", "begins on the slopes of {v}"],
             ["{p} source lies on {v}", "the springs of {o} are found on {v}"],
             ["Where does {s} rise?", "Where is {p} source?", "On which mountain does {s} begin?",
              "On which mountain is the source of {o}?", "Where are the springs of {o}?"]),
    Relation("mouth", "water", ["flows into {v}", "empties into {v}", "ends in {v}"],
             ["{p} mouth is on {v}", "the water of {o} reaches {v} at last"],
             ["What does {s} flow into?", "Where does {s} end?", "Where is {p} mouth?", "What does {s} empty into?",
              "Into what water does {s} flow?"]),
    Relation("length", (12, 990, "{} kilometres"), ["is {v} long", "runs for {v}", "covers {v} from end to end"],
             ["{p} length is {v}", "from spring to mouth {s} measures {v}"],
             ["How long is {s}?", "What is {p} length?", "How many kilometres long is {s}?", "How far does {s} run?",
              "What is the length of {o}?"]),
    Relation("fish", FISH, ["is rich in {v}", "is full of {v}", "is known among anglers for its {v}"],
             ["anglers catch {v} in {o}", "{p} waters hold plenty of {v}"],
             ["What fish live in {o}?", "Which fish is {s} rich in?", "What do anglers catch in {o}?",
              "What kind of fish do {p} waters hold?", "Which fish can be caught in {o}?"]),
    Relation("bridges", (2, 60, "plain"), ["is crossed by {v} bridges", "has {v} bridges", "passes under {v} bridges"],
             ["the number of bridges over {o} is {v}", "there are {v} bridges over {o}"],
             ["How many bridges cross {o}?", "How many bridges does {s} have?", "By how many bridges is {s} crossed?",
              "How many bridges span {o}?", "How many bridges are there over {o}?"]),
    Relation("mapped", "person", ["was first mapped by {v}", "was surveyed by {v}", "was charted by {v}"],
             ["the first map of {o} was drawn by {v}", "{v} was the first to map {o}"],
             ["Who first mapped {o}?", "Who surveyed {o}?", "Who drew the first map of {o}?", "Who charted {o}?",
              "By whom was {s} first mapped?"]),
    Relation("flood", MONTHS, ["floods in {v}", "leaves its bed every {v}", "swells each {v}"],
             ["{p} floods come in {v}", "in {v} the meadows along {o} stand under water"],
             ["In which month does {s} flood?", "When does {s} flood?", "When do {p} floods come?",
              "In what month does {s} leave its bed?", "Which month brings the floods of {o}?"]),
], [
    "willows grow along the banks", "in {year} the ice lay a metre thick", "{person} wrote a {adj} song about the water",
    "the ferry to {place} stopped running in {year}", "the old mill has not turned since {year}", "boats pass slowly in the {adj} reeds",
    "people wash their {adj} linen there", "the banks are {adj} in spring", "gravel was dug there until {year}",
    "the towpath is popular with walkers", "a monument to {person} stands by the lock", "{num} mills once stood in the valley",
    "herons stand in the shallows", "the sound of the water is {adj}",
], ["What colour is the water of {o}?", "How deep is {s}?", "Who owns the mills on {o}?", "How wide is {s}?",
    "How cold is the water of {o}?", "How many islands are there in {o}?"])

PERSON = Kind("person", "person", (("she", "her", "her"), ("he", "him", "his")), [
    "{s} is remembered as a {adj} person", "{s} led a {adj} life", "{s} is little known today", "{s} was always a {adj} talker",
    "{s} was known to many", "{s} was described by friends as {adj} and {adj2}",
], [
    Relation("born", (1500, 1989, "plain"), ["was born in {v}", "came into the world in {v}"],
             ["the year of {p} birth is {v}", "{p} life began in {v}", "{p} parents recorded {v} as the year of birth"],
             ["When was {s} born?", "In what year was {s} born?", "What is {p} year of birth?",
              "In which year did {p} life begin?", "What year was {s} born in?"]),
    Relation("birthplace", "town", ["comes from {v}", "was born in the town of {v}", "is a native of {v}"],
             ["{p} birthplace is {v}", "the town where {s} was born is {v}"],
             ["Where does {s} come from?", "Where was {s} born?", "What is {p} birthplace?", "In which town was {s} born?",
              "Of which town is {s} a native?"]),
    Relation("job", JOBS, ["worked as a {v}", "earned a living as a {v}", "was a {v} by trade"],
             ["{p} profession was that of a {v}", "everyone knew {o} as a {v}"],
             ["What did {s} work as?", "What was {p} profession?", "How did {s} earn a living?", "What was {s} by trade?",
              "What was {p} job?"]),
    Relation("teacher", "person", ["was taught by {v}", "studied under {v}", "was a pupil of {v}"],
             ["{p} teacher was {v}", "{v} taught {o} for years"],
             ["Who taught {o}?", "Who was {p} teacher?", "Under whom did {s} study?", "Whose pupil was {s}?",
              "By whom was {s} taught?"]),
    Relation("spouse", "person", ["was married to {v}", "married {v}", "shared a home with {v} after the wedding"],
             ["{p} wedding with {v} was a quiet one", "{v} took {p} hand in marriage"],
             ["Who was {s} married to?", "Whom did {s} marry?", "Who married {o}?", "Who took {p} hand in marriage?",
              "Whose spouse was {s}?"]),
    Relation("instrument", INSTRUMENTS, ["played the {v}", "was a gifted player of the {v}", "practised the {v} every day"],
             ["{p} instrument was the {v}", "neighbours often heard {o} play the {v}"],
             ["What instrument did {s} play?", "Which instrument did {s} play?", "What was {p} instrument?",
              "What did neighbours hear {o} play?", "Which instrument did {s} practise?"]),
    Relation("home", "town", ["lives in {v}", "has settled in {v}", "made a home in {v}"],
             ["{p} house stands in {v}", "the people of {v} count {o} among their neighbours"],
             ["Where does {s} live?", "In which town does {s} live?", "Where has {s} settled?", "Where does {p} house stand?",
              "In which town did {s} make a home?"]),
    Relation("pet", PETS, ["kept a {v} as a pet", "owned a tame {v}", "was followed everywhere by a {v}"],
             ["{p} pet was a {v}", "a {v} slept at the foot of {p} bed"],
             ["What pet did {s} keep?", "What animal did {s} own?", "What was {p} pet?", "Which animal followed {o} everywhere?",
              "What kind of pet did {s} have?"]),
], [
    "the garden behind the house was {adj}", "a portrait from {year} shows a {adj} face", "the letters were lost in {year}",
    "a journey to {place} in {year} ended early", "evenings were spent over {adj} books", "the family had {num} cousins",
    "a visit from {person} was always welcome", "long walks were a {adj} habit", "a street in {place} was named in {year}",
    "nobody knows what became of the {adj} coat", "the winters were hard in those years", "a diary of {num} pages survives",
    "rain never spoiled a {adj} mood", "in {year} there was a quarrel with {person}",
], ["What colour were {p} eyes?", "How tall was {s}?", "When did {s} die?", "How many children did {s} have?",
    "What was {p} favourite dish?", "Which prize did {s} win?"])

SHIP = Kind("ship", "ship", IT, [
    "{s} is a {adj} ship", "{s} is a ship with a {adj} hull", "{s} is a sailing ship", "{s} is a three-masted ship",
    "{s} is a {adj} ship by any measure", "{s} is a {adj} and {adj2} ship",
], [
    Relation("launched", (1600, 1949, "plain"), ["was launched in {v}", "first touched water in {v}", "left the slipway in {v}"],
             ["the launch of {o} took place in {v}", "{p} launch was celebrated in {v}"],
             ["When was {s} launched?", "In what year was {s} launched?", "When did {s} first touch water?",
              "What year did {s} leave the slipway?", "In which year was {p} launch?"]),
    Relation("builder", "company", ["was built by {v}", "was made in the yard of {v}", "came from the docks of {v}"],
             ["{p} builder was {v}", "the yard of {v} laid {p} keel"],
             ["Who built {o}?", "Who was {p} builder?", "By whom was {s} built?", "Which company built {o}?",
              "In whose yard was {s} made?"]),
    Relation("port", "town", ["has its home port in {v}", "is based in {v}", "is registered in {v}"],
             ["{p} home port is {v}", "between voyages {s} lies at {v}"],
             ["What is {p} home port?", "Where is {s} based?", "Where is {s} registered?", "In which town does {s} have its home port?",
              "What is the home port of {o}?"]),
    Relation("captain", "person", ["sails under captain {v}", "is commanded by {v}", "obeys captain {v}"],
             ["{p} captain is {v}", "the captain of {o} is {v}"],
             ["Who is the captain of {o}?", "Who is {p} captain?", "Who commands {o}?", "Under which captain does {s} sail?",
              "By whom is {s} commanded?"]),
    Relation("length", (14, 180, "{} metres"), ["is {v} long", "measures {v} from bow to stern", "has a length of {v}"],
             ["{p} length is {v}", "from bow to stern {s} measures {v}"],
             ["How long is {s}?", "What is {p} length?", "What is the length of {o}?", "How many metres long is {s}?",
              "How much does {s} measure from bow to stern?"]),
    Relation("cargo", CARGOES, ["carries {v}", "transports {v}", "is loaded with {v}"],
             ["{p} cargo is {v}", "{p} hold is full of {v}"],
             ["What does {s} carry?", "What is {p} cargo?", "What does {s} transport?", "What is in {p} hold?",
              "With what is {s} loaded?"]),
    Relation("crew", (9, 340, "{} sailors"), ["has a crew of {v}", "is manned by {v}", "needs {v} to sail"],
             ["{p} crew numbers {v}", "{v} live and work on {o}"],
             ["How many sailors are on {o}?", "How large is {p} crew?", "How many sailors make up {p} crew?", "What is the size of {p} crew?",
              "How many sailors does {s} need?"]),
    Relation("figurehead", ANIMALS, ["has a figurehead in the shape of a {v}", "bears a carved {v} at the bow", "shows a wooden {v} as figurehead"],
             ["{p} figurehead is a {v}", "a carved {v} looks out from {p} bow"],
             ["What is {p} figurehead?", "Which animal is carved at {p} bow?", "What is the figurehead of {o}?",
              "What does {s} show as figurehead?", "What animal is the figurehead of {o}?"]),
], [
    "in {year} a storm broke the mast", "the sails are {adj}", "the cook, {person}, is feared by all", "gulls follow in its wake",
    "the bell was cast in {year}", "a voyage to {place} lasted {num} weeks", "the deck is scrubbed each morning",
    "the cabins are {adj} and dark", "{person} once travelled as a passenger", "rats ate the charts in {year}",
    "songs are sung at the pumps", "the paint is {adj}", "a {adj} lantern hangs at the stern", "repairs in {place} took {num} days",
], ["What colour are the sails of {o}?", "How fast is {s}?", "Who paid for {o}?", "How many masts does {s} have?",
    "Who sank {o}?", "How many guns does {s} have?"])

COMPANY = Kind("company", "company", IT, [
    "{s} is a {adj} company", "{s} is a company with a {adj} past", "{s} is a family company", "{s} is a {adj} and {adj2} business",
    "{s} is a {adj} company by any measure", "{s} is a company that grew slowly",
], [
    Relation("founded", (1650, 1999, "plain"), ["was founded in {v}", "has been in business since {v}", "opened its doors in {v}"],
             ["the founding of {o} dates to {v}", "{p} first year of business was {v}"],
             ["When was {s} founded?", "In what year was {s} founded?", "Since when has {s} been in business?",
              "When did {s} open its doors?", "What was {p} first year of business?"]),
    Relation("founder", "person", ["was founded by {v}", "was started by {v}", "owes its existence to {v}"],
             ["{p} founder was {v}", "{v} founded {o} with borrowed money"],
             ["Who founded {o}?", "Who was {p} founder?", "By whom was {s} founded?", "Who started {o}?",
              "To whom does {s} owe its existence?"]),
    Relation("seat", "town", ["has its headquarters in {v}", "is based in {v}", "has its main office in {v}"],
             ["{p} headquarters are in {v}", "{p} main office stands in {v}"],
             ["Where is {s} based?", "Where are {p} headquarters?", "In which town does {s} have its headquarters?",
              "Where is {p} main office?", "Where does {s} have its main office?"]),
    Relation("makes", PRODUCTS, ["makes {v}", "produces {v}", "manufactures {v}", "sells {v} of its own making"],
             ["{p} main product is {v}", "{p} workers turn out {v}"],
             ["What does {s} make?", "What does {s} produce?", "What does {s} manufacture?", "What is {p} main product?",
              "What does {s} sell?"]),
    Relation("staff", (6, 9800, "comma"), ["employs {v} people", "has {v} employees", "gives work to {v} people"],
             ["{v} people work for {o}", "{p} staff numbers {v}"],
             ["How many people does {s} employ?", "How many employees does {s} have?", "How many people work for {o}?",
              "How large is {p} staff?", "To how many people does {s} give work?"]),
    Relation("director", "person", ["is run by {v}", "is directed by {v}", "is managed by {v}"],
             ["{p} director is {v}", "the director of {o} is {v}"],
             ["Who runs {o}?", "Who is the director of {o}?", "Who directs {o}?", "Who manages {o}?", "Who is {p} director?"]),
    Relation("emblem", ANIMALS, ["has a {v} as its emblem", "uses a {v} as its trademark", "stamps a {v} on everything it sells"],
             ["{p} emblem is a {v}", "a {v} is shown on {p} sign"],
             ["What is {p} emblem?", "What animal is {p} emblem?", "Which animal does {s} use as its trademark?", "What is shown on {p} sign?",
              "What does {s} have as its emblem?"]),
], [
    "the warehouse burned in {year}", "{person} bought the first {adj} machine", "orders come from as far as {place}",
    "the archive holds {num} boxes", "the canteen is {adj}", "a strike in {year} lasted {num} weeks", "the chimney can be seen from afar",
    "apprentices begin at dawn", "the accounts were {adj} for years", "{person} wrote a short history in {year}",
    "a branch in {place} was closed again", "visitors may see the {adj} yard", "the whistle blows at noon",
], ["What colour is the logo of {o}?", "How much money did {s} earn?", "Who designed the factory of {o}?", "Which bank lent money to {o}?",
    "What is the motto of {o}?", "How many factories does {s} own?"])

RECIPE = Kind("recipe", "dish", IT, [
    "{s} is a {adj} dish", "{s} is a dish for {adj} evenings", "{s} is a {adj} and {adj2} dish", "{s} is a simple dish",
    "{s} is a {adj} dish by any measure", "{s} is a dish for feast days",
], [
    Relation("main", INGREDIENTS, ["is made with {v}", "is prepared from {v}", "consists mostly of {v}"],
             ["{p} main ingredient is {v}", "the most important part of {o} is {v}"],
             ["What is {s} made with?", "What is {p} main ingredient?", "What is the main ingredient of {o}?",
              "From what is {s} prepared?", "What does {s} mostly consist of?"]),
    Relation("origin", "region", ["comes from {v}", "originated in {v}", "was first cooked in {v}"],
             ["{p} home is {v}", "the people of {v} gave us {o}"],
             ["Where does {s} come from?", "Where did {s} originate?", "Where was {s} first cooked?", "From which region does {s} come?",
              "Where is {p} home?"]),
    Relation("time", (8, 240, "{} minutes"), ["takes {v} to cook", "must cook for {v}", "is ready after {v}"],
             ["{p} cooking time is {v}", "cooks leave {o} on the fire for {v}"],
             ["How long does {s} take to cook?", "How long must {s} cook?", "What is {p} cooking time?", "How many minutes does {s} take?",
              "After how long is {s} ready?"]),
    Relation("spice", SPICES, ["is seasoned with {v}", "is spiced with {v}", "gets its taste from {v}"],
             ["cooks season {o} with {v}", "{p} usual spice is {v}"],
             ["What is {s} seasoned with?", "With which spice is {s} seasoned?", "What is {p} usual spice?", "What gives {o} its taste?",
              "Which spice goes into {o}?"]),
    Relation("side", SIDES, ["is served with {v}", "is eaten with {v}", "comes to the table with {v}"],
             ["people eat {o} with {v}", "{p} usual side is {v}"],
             ["What is {s} served with?", "What is {s} eaten with?", "What comes to the table with {o}?", "What is {p} usual side?",
              "What do people eat with {o}?"]),
    Relation("inventor", "person", ["was invented by {v}", "was created by {v}", "was first written down by {v}"],
             ["{p} inventor was {v}", "{v} invented {o} by accident"],
             ["Who invented {o}?", "Who created {o}?", "Who was {p} inventor?", "By whom was {s} invented?",
              "Who first wrote down {o}?"]),
    Relation("vessel", VESSELS, ["is cooked in a {v}", "is prepared in a {v}", "needs a {v}"],
             ["cooks make {o} in a {v}", "a {v} is used for {o}"],
             ["What is {s} cooked in?", "In what is {s} prepared?", "What do cooks make {o} in?", "What kind of vessel does {s} need?",
              "What is used to cook {o}?"]),
], [
    "the smell is {adj}", "{person} ate it every day in {year}", "children like the {adj} crust", "an inn in {place} is proud of its version",
    "some cooks add a secret herb", "a contest in {year} had {num} judges", "leftovers are {adj} the next day",
    "grandmothers disagree about the details", "the colour should be {adj}", "{person} praised it in a letter from {place}",
    "a pinch too much spoils everything", "it must be stirred {num} times", "guests often ask for more",
], ["How much does {s} cost?", "How many eggs go into {o}?", "What colour is {s}?", "Who sells {o}?", "At what feast is {s} eaten?",
    "How much salt goes into {o}?"])

BOOK = Kind("book", "book", IT, [
    "{s} is a {adj} book", "{s} is a book for {adj} readers", "{s} is a {adj} and {adj2} book", "{s} is a book that many have read",
    "{s} is a {adj} book by any measure", "{s} is a book in {num} parts",
], [
    Relation("author", "person", ["was written by {v}", "is the work of {v}", "came from the pen of {v}"],
             ["{p} author is {v}", "{v} wrote {o} in a single winter"],
             ["Who wrote {o}?", "Who is the author of {o}?", "Who is {p} author?", "By whom was {s} written?", "Whose work is {s}?"]),
    Relation("published", (1600, 1999, "plain"), ["was published in {v}", "first appeared in {v}", "was printed in {v}"],
             ["the first edition of {o} appeared in {v}", "{p} year of publication is {v}"],
             ["When was {s} published?", "In what year was {s} published?", "When did {s} first appear?",
              "What is {p} year of publication?", "In which year was {s} printed?"]),
    Relation("pages", (60, 1400, "comma {} pages"), ["has {v}", "runs to {v}", "is {v} long"],
             ["{p} length is {v}", "readers of {o} must turn {v}"],
             ["How many pages does {s} have?", "How long is {s}?", "How many pages is {s} long?", "What is {p} length?",
              "To how many pages does {s} run?"]),
    Relation("setting", "town", ["is set in {v}", "takes place in {v}", "plays out in {v}"],
             ["{p} story takes place in {v}", "the events of {o} happen in {v}"],
             ["Where is {s} set?", "Where does {s} take place?", "In which town is {s} set?", "Where does {p} story take place?",
              "Where do the events of {o} happen?"]),
    Relation("genre", GENRES, ["is a {v}", "is usually called a {v}", "belongs on the shelf as a {v}"],
             ["critics call {o} a {v}", "{p} genre is that of a {v}"],
             ["What kind of book is {s}?", "What is {p} genre?", "What do critics call {o}?", "What genre is {s}?",
              "As what does {s} belong on the shelf?"]),
    Relation("publisher", "company", ["was brought out by {v}", "was issued by {v}", "found its publisher in {v}"],
             ["{p} publisher is {v}", "the publisher of {o} is {v}"],
             ["Who published {o}?", "Who is {p} publisher?", "Who is the publisher of {o}?", "Which company brought {o} out?",
              "By which company was {s} issued?"]),
    Relation("hero", "person", ["tells the story of {v}", "follows the life of {v}", "has a hero named {v}"],
             ["{p} hero is {v}", "the main character of {o} is {v}"],
             ["Who is the hero of {o}?", "Who is {p} hero?", "Who is the main character of {o}?", "Whose story does {s} tell?",
              "Whose life does {s} follow?"]),
    Relation("language", "language", ["was first written in {v}", "was composed in {v}", "was translated from {v}"],
             ["{p} original language is {v}", "the first readers of {o} read it in {v}"],
             ["In which language was {s} first written?", "What is {p} original language?", "In what language was {s} composed?",
              "What language was {s} translated from?", "In what language did the first readers read {o}?"]),
], [
    "the cover is {adj}", "a copy was sold in {place} in {year}", "{person} learned long passages by heart", "critics were {adj} at first",
    "the second edition lost {num} chapters", "a copy from {year} is kept in {place}", "schoolchildren find it {adj}",
    "the binding is often {adj}", "{person} read it aloud each winter", "the drawings were left out in {year}",
    "one sentence goes on for a whole chapter", "libraries rarely lend it", "the ending is {adj}",
], ["What colour is the cover of {o}?", "How many copies of {o} were sold?", "Who drew the pictures in {o}?", "Which prize did {s} win?",
    "How does {s} end?", "How much does {s} cost?"])

MOUNTAIN = Kind("mountain", "mountain", IT, [
    "{s} is a {adj} mountain", "{s} is a mountain with a {adj} summit", "{s} is a {adj} and {adj2} mountain", "{s} is a mountain of legends",
    "{s} is a {adj} mountain by any measure", "{s} is a mountain loved by walkers",
], [
    Relation("region", "region", ["stands in {v}", "is a mountain in {v}", "rises in the region of {v}"],
             ["{s} can be found in {v}", "{p} region is {v}"],
             ["In which region does {s} stand?", "What region is {s} in?", "What is {p} region?", "In which region does {s} rise?"],
             always=True, ask_only_if_told=["Where is {s}?", "Where is {s}?", "Where does {s} stand?", "Where can I find {o}?"]),
    Relation("height", (410, 8400, "comma {} metres"), ["is {v} high", "reaches {v}", "rises to {v}"],
             ["{p} height is {v}", "{p} summit lies at {v}"],
             ["How high is {s}?", "What is {p} height?", "What is the height of {o}?", "How many metres high is {s}?",
              "How high does {s} rise?"]),
    Relation("range", "range", ["is part of the {v}", "belongs to the {v}", "is one of the peaks of the {v}"],
             ["{p} range is called the {v}", "geographers count {o} among the {v}"],
             ["Which range is {s} part of?", "To which range does {s} belong?", "What is {p} range called?",
              "Of which range is {s} one of the peaks?", "Among which range do geographers count {o}?"]),
    Relation("climber", "person", ["was first climbed by {v}", "was conquered by {v}", "was first scaled by {v}"],
             ["{v} was the first to climb {o}", "the first person on {p} summit was {v}"],
             ["Who first climbed {o}?", "Who conquered {o}?", "Who was the first to climb {o}?", "Who first scaled {o}?",
              "Who was the first person on {p} summit?"]),
    Relation("climbed", (1700, 1989, "plain"), ["was first climbed in {v}", "saw its first ascent in {v}", "was first scaled in {v}"],
             ["the first ascent of {o} was made in {v}", "{p} first ascent dates from {v}"],
             ["When was {s} first climbed?", "In what year was {s} first climbed?", "When was the first ascent of {o}?",
              "In which year did {s} see its first ascent?", "When was {s} first scaled?"]),
    Relation("rock", ROCKS, ["is made of {v}", "consists of {v}", "is a mass of {v}"],
             ["{p} rock is {v}", "geologists found that {s} is {v} throughout"],
             ["What rock is {s} made of?", "What does {s} consist of?", "What is {p} rock?", "What kind of rock is {s} made of?",
              "Which rock did geologists find in {o}?"]),
    Relation("town", "town", ["looks down on the town of {v}", "stands near {v}", "towers over {v}"],
             ["the town nearest to {o} is {v}", "{p} nearest town is {v}"],
             ["Which town does {s} look down on?", "Which town is nearest to {o}?", "What is {p} nearest town?",
              "Near which town does {s} stand?", "Over which town does {s} tower?"]),
], [
    "clouds hide the {adj} summit for weeks", "a hut was built in {year} and lost in {year2}", "{person} painted the view in {year}",
    "goats graze on the {adj} slopes", "an avalanche in {year} blocked the road to {place}", "the path is {adj} in autumn",
    "the echo answers {num} times", "shepherds avoid the {adj} side at night", "{person} lost a boot there", "snow stays in the gullies until summer",
    "the guide from {place} knows every stone", "a cross was put up in {year}", "the wind is {adj} even in July",
], ["What is the weather like on {o}?", "How old is {s}?", "Who owns {o}?", "How many huts are there on {o}?", "What flowers grow on {o}?",
    "How long does it take to climb {o}?"])

KINDS = {kind.key: kind for kind in (TOWN, RIVER, PERSON, SHIP, COMPANY, RECIPE, BOOK, MOUNTAIN)}

ADJECTIVES = ("quiet|famous|narrow|strange|modest|elegant|cheerful|gloomy|proud|simple|curious|gentle|stubborn|bright|plain|dusty|"
              "lively|remarkable|humble|handsome|peculiar|sturdy|friendly|noisy|graceful|rough|neat|solemn|charming|"
              "forgotten|splendid|weathered|pleasant|serious|sleepy|busy|fine|odd|grand|lonely").split("|")
FRAMES = {  # how the words of a name become the name; the first is the plain one
    "river": ["the {w}"], "mountain": ["Mount {w}", "{w} Peak", "the {w} Horn", "Mount {w}"],
    "town": ["{w}", "{w}", "{w}", "{w}", "Port {w}", "Upper {w}", "Lower {w}", "Saint {w}", "New {w}", "Old {w}"],
    "ship": ["the {w}", "the {w}", "the Star of {w}", "the Lady {w}", "the {w} Queen", "the Pride of {w}", "the {w} Heron", "the King of {w}"],
    "company": ["{w} & Sons", "{w} Works", "{w} Brothers", "{w} Trading Company", "{w} Mills", "{w} & Daughters", "the {w} Company",
                "{w} Limited", "{w} & {w2}"],
    "recipe": ["{w} stew", "{w} pie", "{w} soup", "{w} pudding", "{w} bread", "{w} cake", "{w} roast",
               "{w} porridge", "{w} tart", "{w} broth"],
    "book": ["The Lantern of {w}", "The Road to {w}", "Songs of {w}", "Winter in {w}", "The Last Days of {w}", "The {w} Letters",
             "A Garden in {w}", "The Bells of {w}", "The Secret of {w}", "{w} at Night", "Return to {w}", "The {w} Mystery"],
    "region": ["{w}"], "water": ["Lake {w}", "the Sea of {w}", "the {w} Sea", "{w} Bay"],
    "range": ["{w} Hills", "{w} Range", "{w} Alps", "{w} Mountains"], "language": ["{w}"],
}
WORD_STYLE = {"river": "river", "mountain": "any", "town": "town", "ship": "any", "company": "surname", "recipe": "town",
              "book": "town", "region": "region", "water": "water", "range": "any", "language": "language"}
PREFIXES = ("as far as anyone knows, |today, |according to the register, |by all accounts, |it is said that |records show that |"
            "as every child there knows, |without doubt, |on paper, |strictly speaking, |").split("|")
OFF_TOPIC = ("What is the capital of France?|How many moons does Mars have?|What is two plus two?|Who was the first president?|"
             "What time is it?|What should I have for dinner?|Can you write a poem?|Who won the game last night?|"
             "What is the tallest building?|How do I bake bread?|What is the meaning of life?|Which film should I watch?|"
             "What is the speed of light?|How old are you?|Where do you live?|Will it rain tomorrow?|"
             "What is the largest animal?|Who painted the stars?|How far is the moon?|What is my name?").split("|")
SMALL_TALK = [
    (("Hello|Hi|Hello!|Hi there|Hi!|Good morning|Good evening|Hey|Hello there|Good day").split("|"),
     "Hello! Ask me about the documents."),
    (("Thank you|Thanks|Thank you!|Thanks!|Thank you very much|Thanks a lot|Great, thank you|Thank you, that helps").split("|"),
     "You are welcome."),
    (("Goodbye|Bye|Bye!|See you|Goodbye!|See you later").split("|"), "Goodbye!"),
    (("Who are you?|What are you?|What is your name?|What can you do?|What do you do?|Tell me about yourself").split("|"),
     "I am cento-tiny. I answer questions from documents."),
]
NOT_TOLD = "The documents do not say."

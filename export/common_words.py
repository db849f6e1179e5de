"""Words that are somebody's login and an ordinary word in most other places."""

ORDINARY = frozenset(
    # The words of three letters or more that stand in at least 40 of 293 Python packages and
    # modules of the standard library, and some 250 that logins are made of.
    """
    abc able about above abs absolute abspath abstract abstractmethod accept accepted accepts
    access accessed accessing according account across act action actions active actual actually
    adapted add added adding addition additional additionally address adds adjust admin
    administrator advance advanced affect after again against algorithm algorithms alias aliases
    align alive all allow allowed allowing allows almost alone along alpha alpine already also alt
    alternate alternative alternatively although always amazon ambiguous among amount and android
    angular annotated annotation annotations anonymous another ansible any anything anyway apache
    api app appear appears append appended appending apple applicable application applications
    applied applies apply approach appropriate approved arbitrary archive arduino are aren arg
    argparse args argument arguments argv around array ascii ask assert assertion assign assigned
    assignment associated assume assumed assumes assuming async attach attached attempt attempting
    attempts attr attribute attributes attrs audience author auto automatic automatically available
    avoid avoids aware away azure babel back backend background backup backward backwards bad badge
    bar base based basename bases basic baz because become becomes been before begin beginning
    behaves behavior behaviour behind being below best beta better between beyond big bin binary
    bind bit bitcoin bits black blank blob block blocking blocks blue body bool boolean bootstrap
    bot both bottom bound boundary bounds box branch break breaking breaks broken buf buffer
    buffered buffers bug bugs bugzilla build builder building builds built builtin builtins but
    byte bytearray bytes cache cached caches caching calculate calculated call callable callback
    called caller callers calling calls can candidate cannot canonical capture care case cases cast
    cat catch category caught cause caused causes ceil center centos certain chain change changed
    changes changing char character characters chars charset check checked checking checks child
    children choice choices choose chosen chr chrome chunk chunks circular class classes classifier
    classmethod clause clean cleanup clear client clone close closed closing cloud cls cmd code
    codecov coder codes coding col collect collected collection collections color column columns
    com combination combine combined come comes comma command commands comment comments commit
    common compare compared comparing comparison comparisons compat compatibility compatible
    compile compiled compiler complete completed completely complex component components compressed
    compute computed computer computing concrete concurrent condition conditions config
    configuration configure configured connect connection consecutive consider considered
    consistency consistent consists console const constant constants construct constructed
    construction constructor consume consumed contact contain contained container containing
    contains content contents context contextlib contextmanager continue contributor contributors
    control controls convenience conversion convert converted converting converts cool copied
    copies copy copying copyright core correct correctly corresponding corresponds could count
    counter counts cover coverage covers create created creates creating creation cross crypto ctx
    current currently custom cut cyber cycle darwin data database dataclass dataclasses date
    datetime day deal dealing debian debug debugging dec decide decimal decode decoded decoding
    decorator deep deepcopy def default defaultdict defaults define defined defines defining
    definition definitions del delay delete deleted delimiter delta demo depend dependencies
    dependency dependent depending depends deploy deprecated deprecation depth deque derived
    describe described description descriptor descriptors design designed desired dest destination
    detail detailed details detect detected detection determine determined determines dev developer
    developers development device devops dict dictionaries dictionary dicts did didn diff differ
    difference differences different differently differs digit digits dir direct direction directly
    directories directory dirname disable disabled discard discussion disk dispatch display
    displayed dist distinct distinguish distributed distribution div division django doc docker
    docs docstring document documentation documented does doesn dog doing domain don done dot
    dotnet double down download drop dropped due dummy dump dumps duplicate duplicates during
    dynamic dynamically each earlier early easier easily easy edge editor effect effective effects
    efficient either elastic electron element elements elif else email embedded emit emitted empty
    enable enabled enables encode encoded encoding encodings encountered end ending ends endswith
    enforce engine engineer enough ensure ensures enter entire entirely entries entry enum
    enumerate env environ environment equal equality equivalent err errno error errors escape
    escaped eslint especially etc eval evaluate evaluated evaluation even event events eventually
    ever every everything exact exactly example examples exc exceed exceeds except exception
    exceptions exclude excluded exclusive exec executable execute executed executing execution
    exist existing exists exit expand expanded expect expected expects expensive experimental
    expert explicit explicitly export expose expression expressions ext extend extended extension
    extensions external extra extract extracted facebook fact factor factory fail failed failing
    fails failure failures fall fallback falls false family far fast faster feature features fedora
    feedback fetch few field fields figure file filename filenames fileno files filesystem fill
    filled filter filters final finally find finding finds fine finish finished firebase firefox
    first fit fix fixed fixes flag flags flask flat flatten float floating floats floor flush fmt
    follow followed following follows foo for force fork form format formats formatted formatter
    formatting forms forward found four fraction frame frames framework free from front frozen
    frozenset full fully func function functionality functions functools further future game gamer
    garbage gen general generally generate generated generates generating generation generator
    generators generic gentoo get getattr getitem gets getstate getting getvalue ghost git github
    gitlab give given gives giving glob global globals gmail goes going golang good google gopher
    got grafana graph greater group grouped groups guaranteed guard guess guest guide guru hack
    hacker had hadoop half hand handle handled handler handles handling happen happens hard has
    hasattr hash hashable haskell have haven having head header headers height held hello help
    helper helpers helps hence here hex hidden hide high higher highest hint history hit hold
    holding holds home homepage hook hooks host how however html http https hub human idea
    identical identified identifier identifiers identify identity ids idx ignore ignored ignores
    ignoring illegal image img immediately immutable impl implement implementation implementations
    implemented implementing implements implicit import important imported importing importlib
    imports improve inc include included includes including incompatible incomplete incorrect
    increasing increment indent independent index indexing indicate indicates indicating indices
    individual inf infer infinite info information inherit inherited init initial initialization
    initialize initialized initially inline inner input inputs insensitive insert inside inspect
    install installation installed instance instances instantiate instead instructions int integer
    integers intended interactive interface intermediate internal internally interpreted
    interpreter interrupt intersection interval into ints invalid inverse invoke invoked isdir
    isfile isinstance isn issubclass issue issues item items iter iterable iterate iterating
    iteration iterator itertools its itself java javascript jenkins join jquery json junior just
    kafka keep keeping keeps kept keras kernel key keyboard keys keyword keywords kind know known
    kotlin kubernetes kwargs lab label labels lambda language laravel large larger last later
    latest latin latter layer lazy lead leading learn least leave leaving left legacy len length
    lengths less let lets letter letters level levels lib libraries library license licensed like
    likely limit limitations limited limits line linear lineno lines link links lint linter linux
    list listdir listed lists literal little live load loaded loader loading loads local locally
    locals location locations lock log logger logging logic logical login long longer longest look
    looking looks lookup loop loops lot low lower lowercase lowest lru lstrip mac machine machinery
    macos made magic main maintain maintained maintainer major make makes making manager manual
    manually many map mapped mapping maps mariadb mark markdown marked marker markers marks mask
    master match matched matches matching math matter max maximum maxsize may maybe mean meaning
    means meant mechanism member members memory memoryview merge merged message messages meta
    metaclass metadata meth method methods microsoft middle might min minimal minimum minor minus
    misc mismatch missing mix mixed mobile mod mode model models modes modification modified modify
    modifying module modules mongodb monitor more most mostly move moved moving mozilla msg much
    mul multi multiple must mutable mutate mutually mypy mysql name named namedtuple names
    namespace naming nan nargs native necessarily necessary need needed needs neg negative neither
    nerd nested nesting net network never new newbie newline newlines newly next nginx nice ninja
    nobody node nodes non none nonlocal noqa nor normal normalization normalize normalized normally
    not note notes nothing notice now npm null num number numbers numeric numpy obj object objects
    obtain obtained occur occurred occurs octocat odd off offset offsets often old older omitted
    once one ones only onto open opencv opened opening operating operation operations operator
    operators ops opt optimization optimize optimized option optional optionally options opts
    oracle ord order ordered ordering org orig origin original originally other others otherwise
    our out outer output outputs outside over overflow overhead overlap overload overridden
    override overrides overriding overwrite own owner pack package packages packaging pad padding
    page pair pairs pandas parallel param parameter parameters params parent parents parse parsed
    parser parsing part partial partially particular partition parts party pass passed passes
    passing past patch path pathlib paths pattern patterns pending people pep per percent perform
    performance performed performs period permission permissions phone php pick pickle pieces pip
    pipe place placed placeholder places plain platform platforms player please plus point pointer
    points policy pool pop populate port pos position positional positive posix possible possibly
    post postgres postgresql potential potentially power practice pragma pre precedence precision
    prefer preferred prefix prefixes prepare present preserve preserving pretty prev prevent
    previous previously primary print printed printing prints prior priority private probably
    problem problems proc process processed processes processing produce produced produces product
    production program programmer programming programs progress project projects prometheus prompt
    propagate proper properly properties property protocol provide provided provides providing
    proxy public pull pure purpose purposes push put pypi pytest python pytorch qualname query
    questions queue quick quite quote quoted rabbitmq raise raised raises raising random range
    ranges rather raw reach reached react read readable reader reading readline reads readthedocs
    ready real really reason reasons receive received recent recognized recommended record
    recursion recursive recursively red redis reduce redundant ref refer reference referenced
    references reflect regardless regex register registered registry regular reject rel related
    relative release released releases relevant relies rely remain remainder remaining remains
    remember remote removal remove removed removes removing rename renamed render repeat repeated
    replace replaced replacement replaces replacing repo report reported reporter reporting reports
    repository repr represent representation represented representing represents request requested
    requests require required requirement requirements requires requiring res reserved reset
    resolution resolve resolved resource resources respect respectively response rest restore
    restriction result resulting results ret retain retrieve retrieved return returned returning
    returns reuse reused reverse reversed review reviewer right rights robot root round row rst
    rstrip ruby rule rules run running runs runtime rust safe safely safety same sample samsung
    save saved say says scale scan scheme scientific scope script scripts search second seconds
    section security see seek seem seems seen segment select selected self semantics send senior
    sense sensitive sent sentinel sep separate separated separately separator seq sequence
    sequences serialization serialize serialized series server service session set setattr
    setdefault setitem sets setstate setter setting settings setup several sha shape share shared
    shell shields shift shop short should shouldn show shows side sig sign signal signature signed
    silently similar similarly simple simplify simply since single site size sized sizes skip
    skipped skipping skips sleep slice slightly slots slow slower small smaller socket software
    some someone something sometimes soon sort sorted sorting source sources space spaces span
    spark spec special specific specifically specification specified specifies specify specifying
    speed split splitlines sqlite square src stable stack stacklevel stackoverflow stale standard
    start started starting starts startswith stat state statement statements states static
    staticmethod statistics stats status stay std stderr stdin stdlib stdout step steps still stop
    stops storage store stored stores storing str strategy stream streams strict strictly string
    strings strip stripped strong struct structure structures student stuff style sub subclass
    subclasses subject submodule subprocess subsequent subset subtract success successfully such
    suffix suitable suite sum summary super supplied support supported supporting supports suppress
    sure svg swift switch symbol symbols symfony sync syntax sys system systems tab table tables
    tag tags tail take taken takes taking target task team tech tell tells temp tempfile template
    temporary tensorflow term terminal terminated terms terraform test tested tester testing tests
    text textwrap than that the their them themselves then there therefore these they thing things
    think third this those though thread threading threads three through throw thus time timeout
    times timestamp title tmp together token tokenize tokens too tool tools top topic total trace
    traceback track tracker trailing transform translate travis treat treated tree tried tries
    trigger triggered true truncate truncated try trying tuple tuples turn turns tutorial twice
    twitter two txt type typed types typically typing ubuntu uint unable unavailable unchanged
    undefined under underlying unexpected unfortunately unicode union unique unit units unity unix
    unknown unless unlike unnecessary unpack unset unsupported until unused update updated updates
    upon upper uppercase url urllib usable usage use used useful user username users uses using usr
    usual usually utf util utilities utility utils vagrant val valid validate validation value
    values var variable variables variant various vars verbose verify version versions very via
    view vim virtual visible vue wait walk want warn warning warnings was way ways weak weakref web
    webmaster webpack website well were what whatever when whenever where whether which while
    whitespace who whole whose why wide width wiki wikipedia will win window windows with within
    without wizard won word wordpress words work workaround worker workflows working works world
    would wrap wrapped wrapper wrapping wraps writable write writer writes writing written wrong
    www xml yaml year yes yet yield yields you your zero zeros zip
    """.split()
)

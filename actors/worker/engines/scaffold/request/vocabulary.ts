/**
 * The closed word classes with which a request is taken apart: what starts a list, what ends a
 * noun phrase, what only speaks about the software. Data only; `prose.ts` and `noun-phrase.ts`
 * apply it.
 */

const words = (text: string): ReadonlySet<string> => new Set(text.split(/\s+/));

/** Words for the software itself; a noun phrase that ends in one names what stands before it. */
export const SERVICE_WORDS = words(
  'api apis app apps application backend server service services microservice microservices ' +
    'system platform website webservice webapp software rest restful http json crud endpoint ' +
    'endpoints routes',
);

/** Words for a keeping of many; "bird list" is about birds. */
export const CONTAINER_WORDS = words(
  'list lists tracker manager catalog catalogue collection database registry directory ' +
    'organizer organiser planner management tracking archive repository index overview keeper ' +
    'handler administration log',
);

/** Words that describe the software and never a thing kept. */
export const ADJECTIVES = words(
  'simple small basic new web full fullstack minimal tiny online digital personal complete ' +
    'modern clean fast little lightweight robust secure scalable internal public following ' +
    'different various own nice good great working proper custom generic typical classic ' +
    'existing single multiple several many few more local production ready python node nodejs ' +
    'fastapi express javascript typescript js two three four five one',
);

export const DETERMINERS = words(
  'a an the each every all any some its their our my your his her this these those des les la le un une eine ein',
);

/** A noun phrase ends before these. */
export const BOUNDARIES = words(
  'for of to in on by from at as into about like than via using per between through within ' +
    'and or where which that while but so when if then also plus who whose whom because since ' +
    'until after before during is are be been was were can could should must will would may ' +
    'might do does not no i we you me us him them it they he she please create creates build ' +
    'builds make makes write develop implement design generate give need needs want wants ' +
    'have has having with contain contains containing include includes including without ' +
    'except let lets allow allows support supports supporting provide provides expose exposes ' +
    'offer offers belong belongs belonging consist consists comprise comprises just only ' +
    'there here how what why',
);

export const KEEP_VERBS = words(
  'manage manages track tracks store stores keep keeps record records save saves organize ' +
    'organise organizes catalog catalogue maintain maintains handle handles administer log ' +
    'logs collect collects register registers monitor monitors list lists',
);

export const KEEP_GERUNDS = words(
  'managing tracking storing keeping recording saving organizing organising cataloging ' +
    'cataloguing maintaining handling administering logging collecting registering monitoring ' +
    'listing booking renting ordering selling sharing rating reviewing planning scheduling ' +
    'posting holding serving',
);

export const HAVE_VERBS = words(
  'have has having contain contains containing include includes including comprise comprises with',
);

export const LINK_VERBS = words(
  'link links linking connect connects connecting join joins joining relate relates ' +
    'associate associates pair pairs reference references referencing refer refers',
);

/** "authors write books": the object refers to the subject. */
export const ACTIVE_VERBS = words(
  'write writes place places own owns teach teaches publish publishes post posts create ' +
    'creates make makes submit submits host hosts organize organizes direct directs record ' +
    'records sell sells offer offers',
);

/** "members borrow books": neither owns the other, a third record joins them. */
export const JOINING_VERBS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    borrow: 'loan',
    borrows: 'loan',
    rent: 'rental',
    rents: 'rental',
    book: 'booking',
    books: 'booking',
    reserve: 'reservation',
    reserves: 'reservation',
    attend: 'registration',
    attends: 'registration',
    review: 'review',
    reviews: 'review',
    rate: 'review',
    rates: 'review',
    adopt: 'adoption',
    adopts: 'adoption',
  }),
);

export const MANY = words('many multiple several various lots');

export const MODALS = words(
  'can could should must will would may might also each both all usually always then',
);

/** Features and techniques: an item made of these names nothing to keep. */
export const FEATURE_WORDS = words(
  'authentication auth authorization authorisation login logout jwt oauth tests testing unit ' +
    'pagination paging paginated filtering filters sorting search searching validation ' +
    'validations docker dockerfile compose kubernetes swagger openapi documentation docs readme ' +
    'crud operations operation endpoints endpoint database db sqlite postgres postgresql mysql ' +
    'mongodb mongo redis express fastapi nodejs python javascript typescript react vue angular ' +
    'svelte frontend ui gui handling logging caching limiting cors https ssl deployment ci cd ' +
    'github dependencies coverage api rest restful routes routing http methods codes crud ' +
    'persistence backend microservice pydantic sqlalchemy orm pytest jest linting typing ' +
    'security permissions async features functionality me you us him them everyone learning ' +
    'production everything create read update delete list add remove edit usage',
);

/** These name a feature only beside one of the others: "status codes", but "make and model". */
export const FEATURE_PARTS = words(
  'integration e2e error errors rate dependency best practices code support route json get put ' +
    'patch status response responses request requests health check fields field attributes ' +
    'properties entities entity resources resource models model tables table storage memory file ' +
    'files server service app application framework language types roles relations ' +
    'relationships relationship basic full simple proper good quality clean following feature ' +
    'details things stuff use token tokens cache filter test node',
);

/** Headings behind which entities stand. */
export const ENTITY_HEADINGS = words(
  'entities entity models model resources resource tables table collections objects',
);

/** Headings behind which fields of the main entity stand. */
export const FIELD_HEADINGS = words(
  'fields field attributes attribute properties columns schema data details values information',
);

/** Headings behind which nothing is named that is kept. */
export const OTHER_HEADINGS = words(
  'features feature requirements requirement endpoints routes notes stack technology ' +
    'technologies tech constraints goals rules tests testing acceptance criteria ' +
    'functionality functionalities operations example examples usage use cases stories api ' +
    'task description summary note important relations relationships',
);

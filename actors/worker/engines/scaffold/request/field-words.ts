/**
 * What the words of a field's name say about its type. Data only; `field.ts` applies it.
 */

const words = (text: string): ReadonlySet<string> => new Set(text.split(/\s+/));

/** Words a person writes to name a type outright: `price: decimal`, `tags (list)`. */
export const TYPE_NAMES: ReadonlyMap<string, string> = new Map(
  Object.entries({
    string: 'string str varchar char character nvarchar uuid guid alphanumeric',
    text: 'text longtext mediumtext textarea markdown paragraph multiline',
    integer: 'int integer bigint smallint tinyint serial bigserial long int32 int64 uint',
    number: 'number float double decimal numeric real money float64 float32 currency',
    boolean: 'bool boolean flag checkbox bit yesno truefalse',
    date: 'date',
    datetime: 'datetime timestamp timestamptz datetimetz instant',
    email: 'email mail emailstr',
    url: 'url uri link href httpurl',
    list: 'list array strings',
  }).flatMap(([type, names]) => names.split(' ').map(name => [name, type] as const)),
);

export const BOOLEAN_WORDS = words(
  'visited tried cooked played done completed complete finished active enabled disabled available published archived ' +
    'deleted paid verified returned favorite favourite public private visible hidden approved ' +
    'cancelled canceled featured urgent important checked sold shipped delivered vegan ' +
    'vegetarian resolved confirmed adopted vaccinated pinned starred accepted rejected ' +
    'subscribed read bought purchased packed seen watched owned refundable billable draft',
);

export const DATE_WORDS = words(
  'date birthday birthdate dob due deadline anniversary expiry expiration day released',
);

export const DATETIME_WORDS = words('datetime timestamp departure arrival');

export const NUMBER_WORDS = words(
  'price cost amount total subtotal fee salary wage budget balance weight height width ' +
    'length depth wingspan distance rating temperature latitude longitude lat lng lon ' +
    'percentage percent rate tax discount area volume speed mass altitude elevation gpa hours ' +
    'humidity pressure diameter radius thickness mileage consumption revenue income expense ' +
    'value average lifespan sales',
);

export const INTEGER_WORDS = words(
  'count quantity qty year age pages minutes seconds days weeks months capacity stock ' +
    'floor rank points likes views servings seats population votes stars calories ' +
    'duration score rooms bedrooms bathrooms copies players attendees downloads followers ' +
    'episodes tracks goals wins losses reps sets laps inventory portions years',
);

/** Numbers that may be below zero. */
export const SIGNED_WORDS = words(
  'temperature latitude longitude lat lng lon balance altitude elevation change score amount floor value',
);

export const TEXT_WORDS = words(
  'description content contents body notes note comment comments bio biography summary ' +
    'instructions details text message review lyrics abstract remarks feedback directions ' +
    'recipe answer question explanation',
);

export const URL_WORDS = words('url uri website link homepage webpage');

export const LIST_WORDS = words(
  'tags ingredients categories keywords genres skills labels steps images photos pictures ' +
    'languages features aliases roles topics hobbies interests allergies colors colours sizes ' +
    'synonyms symptoms materials',
);

/** Nouns in plural that are one value all the same; a list is not meant. */
export const SINGULAR_SENSE = words(
  'notes details instructions contents lyrics remarks directions comments terms credentials ' +
    'specs coordinates sales initials status hours',
);

export const UNITS: ReadonlyMap<string, 'integer' | 'number'> = new Map([
  ...'minutes minute mins min seconds secs days weeks months years pages'
    .split(' ')
    .map(unit => [unit, 'integer'] as const),
  ...(
    'hours cm mm m km meters metres meter metre inches feet miles kg g grams kilograms pounds ' +
    'lbs liters litres ml eur euro euros usd dollars gbp cents € $ £ % percent celsius ' +
    'fahrenheit kwh kcal watts'
  )
    .split(' ')
    .map(unit => [unit, 'number'] as const),
]);

'use strict'

const HOLD = 700 // milliseconds until a letter counts
const SURE = 0.5 // less likely ones count for nothing
const SIDE = 160 // pixels of what is sent
const AT_ONCE = 2 // requests under way: while one is answered, the next is on its way
const SPECIAL = new Set(['Space', 'Del', 'Nothing'])

const $ = (id) => document.getElementById(id)
const video = $('video')
const canvas = document.createElement('canvas')
canvas.width = canvas.height = SIDE
const picture = canvas.getContext('2d')

const state = {
  mode: 'spell', letters: '', text: '', held: null, since: 0, counted: false,
  pending: 0, sent: 0, shown: 0, times: [], key: sessionStorage.getItem('key'),
  classes: null, pictures: [], target: '', place: 0, begun: 0, slips: 0,
}

async function ask(path, body, type) {
  const headers = type ? { 'Content-Type': type } : {}
  if (state.key) headers.Authorization = `Bearer ${state.key}`
  const response = await fetch(path, { method: body ? 'POST' : 'GET', headers, body }).catch(() => {
    throw new Error('the server cannot be reached')
  })
  if (response.status === 401 && !state.asked) {
    state.asked = true
    state.key = window.prompt('This server asks for its API key')
    if (state.key) {
      sessionStorage.setItem('key', state.key)
      state.asked = false
      return ask(path, body, type)
    }
  }
  if (!response.ok) {
    const said = await response.json().catch(() => ({ error: `the server answered ${response.status}` }))
    throw new Error(said.error)
  }
  return response
}

function say(message) {
  $('error').textContent = message ?? ''
}

// ---- the camera

async function start() {
  if (video.srcObject) {
    video.srcObject.getTracks().forEach((track) => track.stop())
    video.srcObject = null
    $('start').textContent = 'Start the camera'
    return
  }
  if (!navigator.mediaDevices?.getUserMedia) {
    say('This browser gives the camera to pages over https or from localhost alone. You can open or drop a picture.')
    return
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'user', width: 640, height: 480 } })
    await video.play()
    $('start').textContent = 'Stop the camera'
    say()
    requestAnimationFrame(look)
  } catch (error) {
    const why = { NotAllowedError: 'it was not allowed', NotFoundError: 'there is none', NotReadableError: 'another program has it' }
    say(`The camera cannot be used: ${why[error.name] ?? error.message}. You can open or drop a picture.`)
  }
}

function look() {
  if (!video.srcObject) return
  if (state.pending < AT_ONCE && video.readyState >= 2) {
    const side = 0.7 * Math.min(video.videoHeight, video.videoWidth * 0.75)
    draw(video, (video.videoWidth - side) / 2, (video.videoHeight - side) / 2, side)
    send()
  }
  requestAnimationFrame(look)
}

function draw(source, x, y, side) {
  picture.setTransform($('left').checked ? -1 : 1, 0, 0, 1, $('left').checked ? SIDE : 0, 0)
  picture.drawImage(source, x, y, side, side, 0, 0, SIDE, SIDE)
}

async function send() {
  const number = ++state.sent
  state.pending++
  try {
    const blob = await new Promise((done) => canvas.toBlob(done, 'image/jpeg', 0.92))
    const answer = await (await ask('v1/predict', blob, 'image/jpeg')).json()
    if (number < state.shown) return // a later one was faster
    state.shown = number
    show(answer.predictions[0])
    hold(answer.predictions[0])
    if (state.failed) say() // what else is said stays
    state.failed = false
  } catch (error) {
    say(`No answer: ${error.message}`)
    state.failed = true
    await new Promise((done) => setTimeout(done, 1000))
  } finally {
    state.pending--
  }
}

function show(prediction) {
  const now = performance.now()
  state.times = [...state.times.filter((time) => now - time < 1000), now]
  $('speed').textContent = video.srcObject ? `${state.times.length} predictions a second` : ''
  const letter = prediction.probability >= SURE ? prediction.letter : '–'
  if ($('letter').textContent !== letter) $('letter').textContent = letter
  const rows = [prediction, ...prediction.next].map(({ letter, probability }) => {
    const row = document.createElement('li')
    const bar = Object.assign(document.createElement('meter'), { value: probability, ariaLabel: `${letter}` })
    const share = Object.assign(document.createElement('span'), { textContent: `${Math.round(100 * probability)} %` })
    row.append(Object.assign(document.createElement('span'), { textContent: letter }), bar, share)
    return row
  })
  $('likely').replaceChildren(...rows)
}

// ---- letters that are held become words

function hold({ letter, probability }) {
  const now = performance.now()
  const sure = probability >= SURE && letter !== 'Nothing' ? letter : null
  if (sure !== state.held) {
    // a single other answer in between is a slip of the network, not of the hand
    if (sure !== state.other) {
      state.other = sure
      state.otherSince = now
    }
    if (now - state.otherSince < HOLD / 5) return
    state.held = sure
    state.since = now
    state.counted = false
  }
  state.other = state.held
  const share = state.held && !state.counted ? Math.min(1, (now - state.since) / HOLD) : 0
  $('hold').ariaValueNow = Math.round(100 * share)
  $('hold').firstElementChild.style.width = `${100 * share}%`
  if (share === 1) {
    state.counted = true
    take(state.held)
  }
}

function take(letter) {
  if (state.mode === 'practice') practise(letter)
  else if (letter === 'Space') space()
  else if (letter === 'Del') remove()
  else if (!SPECIAL.has(letter)) {
    state.letters += letter.toUpperCase()
    spell()
  }
}

async function spell() {
  $('raw').textContent = state.letters
  $('text').textContent = state.text
  const letters = state.letters
  if (!/^[A-Z0-9]{1,40}$/.test(letters)) {
    $('words').replaceChildren()
    return
  }
  try {
    const { words } = await (await ask('v1/words', JSON.stringify({ letters }), 'application/json')).json()
    if (letters !== state.letters) return
    $('words').replaceChildren(...words.map((word) => {
      const button = Object.assign(document.createElement('button'), { type: 'button', textContent: word })
      button.addEventListener('click', () => {
        $('space').focus() // the word's own button goes
        accept(word)
      })
      return button
    }))
  } catch (error) {
    say(`No words: ${error.message}`)
  }
}

function accept(word) {
  state.text += `${word} `
  state.letters = ''
  spell()
}

function space() {
  if (state.letters) accept($('words').firstElementChild?.textContent ?? state.letters)
}

function remove() {
  if (state.letters) state.letters = state.letters.slice(0, -1)
  else state.text = state.text.trimEnd().replace(/\S+$/, '')
  spell()
}

$('space').addEventListener('click', space)
$('delete').addEventListener('click', remove)
$('clear').addEventListener('click', () => {
  state.letters = state.text = ''
  spell()
})
const whole = () => (state.text + state.letters).trim()
$('copy').addEventListener('click', () => navigator.clipboard.writeText(whole()).catch(() => say('The text cannot be copied here.')))
$('speak').addEventListener('click', () => {
  if (!('speechSynthesis' in window)) say('This browser cannot speak.')
  else if (whole()) speechSynthesis.speak(Object.assign(new SpeechSynthesisUtterance(whole().toLowerCase()), { lang: 'en' }))
})

// ---- practice

function practise(letter) {
  if (state.place >= state.target.length) return
  if (letter === state.target[state.place]) state.place++
  else if (letter !== state.target[state.place - 1]) state.slips++ // a letter that is still held is no slip
  next()
}

function next() {
  const { target, place, slips } = state
  $('progress').textContent = `${target.slice(0, place)}${'·'.repeat(target.length - place)}`
  const letter = target[place]
  $('example').hidden = !letter
  if (letter) {
    $('example-name').textContent = letter
    $('example-picture').hidden = !state.pictures.includes(letter)
    $('example-picture').alt = `The sign for ${letter}`
    if (state.pictures.includes(letter)) picture_of(letter)
    $('score').textContent = slips ? `${slips} ${slips === 1 ? 'slip' : 'slips'} so far` : ''
  } else if (target) {
    const seconds = (performance.now() - state.begun) / 1000
    const score = Math.round((100 * target.length) / (target.length + slips))
    $('score').textContent = `${target} in ${seconds.toFixed(1)} seconds with ${slips} ${slips === 1 ? 'slip' : 'slips'}: ${score} of 100 points`
  }
}

async function picture_of(letter) {
  try {
    const file = await (await ask(`v1/pictures/${letter}`)).blob()
    URL.revokeObjectURL($('example-picture').src)
    $('example-picture').src = URL.createObjectURL(file)
  } catch (error) {
    say(`No picture: ${error.message}`)
  }
}

$('practice-form').addEventListener('submit', (event) => {
  event.preventDefault()
  const word = $('target').value.toUpperCase()
  if (!state.classes) {
    say('The server has not said which letters its network knows.')
    return
  }
  const unknown = [...word].filter((letter) => !state.classes.includes(letter))
  if (!word || unknown.length) {
    say(word ? `This network does not know ${[...new Set(unknown)].join(', ')}.` : 'Type a letter or a word to sign.')
    return
  }
  say()
  Object.assign(state, { target: word, place: 0, slips: 0, begun: performance.now(), held: null, counted: false })
  next()
})

function mode(name) {
  state.mode = name
  $('spell').hidden = name !== 'spell'
  $('practice').hidden = name !== 'practice'
  $('mode-spell').ariaPressed = name === 'spell'
  $('mode-practice').ariaPressed = name === 'practice'
}
$('mode-spell').addEventListener('click', () => mode('spell'))
$('mode-practice').addEventListener('click', () => mode('practice'))

// ---- a picture's file

async function open(file) {
  if (!file) return
  try {
    const image = await createImageBitmap(file)
    const side = Math.min(image.width, image.height)
    draw(image, (image.width - side) / 2, (image.height - side) / 2, side)
  } catch {
    say(`${file.name} is no picture that this browser can open.`)
    return
  }
  try {
    const blob = await new Promise((done) => canvas.toBlob(done, 'image/png'))
    show((await (await ask('v1/predict', blob, 'image/png')).json()).predictions[0])
    $('hint').textContent = file.name
    say()
  } catch (error) {
    say(`No answer: ${error.message}`)
  }
}
$('file').addEventListener('change', (event) => open(event.target.files[0]))
const stage = $('stage')
stage.addEventListener('dragover', (event) => { event.preventDefault(); stage.classList.add('over') })
stage.addEventListener('dragleave', () => stage.classList.remove('over'))
stage.addEventListener('drop', (event) => {
  event.preventDefault()
  stage.classList.remove('over')
  open(event.dataTransfer.files[0])
})

$('start').addEventListener('click', start)
ask('v1/model').then((response) => response.json()).then(({ classes, pictures }) => {
  Object.assign(state, { classes, pictures })
}).catch((error) => say(`No answer: ${error.message}`))
mode('spell')
next()

'use strict'

const HOLD_TIME = 700 // milliseconds for which a letter is held until it counts
const VOTING_TIME = 500 // milliseconds whose answers are averaged
const VOTING_ANSWERS = 3 // answers that are averaged at least, where the server is slow
const MIN_PROBABILITY = 0.5 // less likely letters are ignored
const SIDE = 160 // side in pixels of the sent picture if the server crops its center
const LONG_SIDE = 480 // longer side in pixels of the sent picture if the server finds the hand in it
const MAX_PENDING = 2 // concurrent requests: the next one is sent while one is being answered
const SPECIAL = new Set(['Space', 'Del', 'Nothing'])

const $ = (id) => document.getElementById(id)
const video = $('video')
const canvas = document.createElement('canvas')
const context = canvas.getContext('2d')
const overlay = $('overlay').getContext('2d')
// pairs of the 21 landmarks that a bone connects
const BONES = [
  [0, 1], [1, 2], [2, 3], [3, 4], [0, 5], [5, 6], [6, 7], [7, 8], [5, 9], [9, 10], [10, 11], [11, 12],
  [9, 13], [13, 14], [14, 15], [15, 16], [13, 17], [17, 18], [18, 19], [19, 20], [0, 17],
]

const state = {
  mode: 'spell', letters: '', text: '', held: null, heldSince: 0, counted: false,
  candidate: null, candidateSince: 0, answers: [], pending: 0, sent: 0, lastShown: 0, requestFailed: false,
  answerTimes: [], key: sessionStorage.getItem('key'), promptDismissed: false,
  classNames: null, pictures: [], findsHand: true, teaches: false, recording: false, target: '', position: 0, startTime: 0, mistakes: 0,
}

async function request(path, body, contentType, method = body ? 'POST' : 'GET') {
  const headers = contentType ? { 'Content-Type': contentType } : {}
  if (state.key) headers.Authorization = `Bearer ${state.key}`
  const response = await fetch(path, { method, headers, body }).catch(() => {
    throw new Error('the server cannot be reached')
  })
  if (response.status === 401 && !state.promptDismissed) {
    state.promptDismissed = true
    state.key = window.prompt('This server requires an API key')
    if (state.key) {
      sessionStorage.setItem('key', state.key)
      state.promptDismissed = false
      return request(path, body, contentType, method)
    }
  }
  if (!response.ok) {
    const answer = await response.json().catch(() => ({ error: `the server answered ${response.status}` }))
    throw new Error(answer.error)
  }
  return response
}

function showMessage(message) {
  $('error').textContent = message ?? ''
}

// ---- camera

async function toggleCamera() {
  if (video.srcObject) {
    video.srcObject.getTracks().forEach((track) => track.stop())
    video.srcObject = null
    $('start').textContent = 'Start the camera'
    $('speed').textContent = ''
    Object.assign(state, { answers: [], held: null, candidate: null, counted: false })
    showHold(0)
    drawHand(null)
    showHint()
    return
  }
  if (!navigator.mediaDevices?.getUserMedia) {
    showMessage('This browser allows the camera only on pages over https or from localhost. You can open or drop a picture.')
    return
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'user', width: 640, height: 480 } })
    await video.play()
    $('start').textContent = 'Stop the camera'
    showMessage()
    requestAnimationFrame(captureFrame)
  } catch (error) {
    const reasons = { NotAllowedError: 'permission was denied', NotFoundError: 'no camera was found', NotReadableError: 'another program is using it' }
    showMessage(`The camera cannot be used: ${reasons[error.name] ?? error.message}. You can open or drop a picture.`)
  }
}

function captureFrame() {
  if (!video.srcObject) return
  if (state.pending < MAX_PENDING && video.readyState >= 2) {
    drawFrame()
    sendFrame()
  }
  requestAnimationFrame(captureFrame)
}

function drawFrame() {
  if (state.findsHand) {
    drawWhole(video, video.videoWidth, video.videoHeight)
  } else {
    const side = 0.7 * Math.min(video.videoHeight, video.videoWidth * 0.75)
    drawSquare(video, (video.videoWidth - side) / 2, (video.videoHeight - side) / 2, side)
  }
}

function drawWhole(source, width, height) {
  const scale = Math.min(1, LONG_SIDE / Math.max(width, height))
  canvas.width = Math.round(width * scale)
  canvas.height = Math.round(height * scale)
  context.drawImage(source, 0, 0, canvas.width, canvas.height)
}

function drawSquare(source, x, y, side) {
  canvas.width = canvas.height = SIDE
  context.setTransform($('left').checked ? -1 : 1, 0, 0, 1, $('left').checked ? SIDE : 0, 0)
  context.drawImage(source, x, y, side, side, 0, 0, SIDE, SIDE)
}

async function sendFrame() {
  const number = ++state.sent
  state.pending++
  try {
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, 'image/jpeg', 0.92))
    const answer = await (await request('v1/predict', blob, 'image/jpeg')).json()
    if (number < state.lastShown) return // the answer to a later frame came first
    state.lastShown = number
    if (!video.srcObject) return // the camera was stopped
    const [prediction] = answer.predictions
    drawHand(prediction.hand)
    showHint(lacksHand(prediction) ? NO_HAND : null)
    showSpeed()
    const voted = vote(prediction)
    showPrediction(voted)
    updateHold(voted)
    if (state.requestFailed) showMessage() // other messages stay
    state.requestFailed = false
  } catch (error) {
    showMessage(`No answer: ${error.message}`)
    state.requestFailed = true
    await new Promise((resolve) => setTimeout(resolve, 1000))
  } finally {
    state.pending--
  }
}

const NO_HAND = 'No hand is in the picture.'
const NO_LETTER = { letter: null, probability: 1, next: [] }
const lacksHand = ({ searched, hand }) => searched && !hand

// The mean probability of each letter in the answers of the last half second; the letter of a picture without a hand is null.
function vote(prediction) {
  const time = performance.now()
  const likely = lacksHand(prediction) ? [NO_LETTER] : [prediction, ...prediction.next]
  const answers = [...state.answers, { time, likely }]
  state.answers = answers.filter((answer, index) => time - answer.time < VOTING_TIME || index >= answers.length - VOTING_ANSWERS)
  const sums = new Map()
  for (const { letter, probability } of state.answers.flatMap((answer) => answer.likely)) sums.set(letter, (sums.get(letter) ?? 0) + probability)
  const means = [...sums].map(([letter, sum]) => ({ letter, probability: sum / state.answers.length }))
  const [first, ...next] = means.sort((one, other) => other.probability - one.probability).slice(0, 5)
  return { ...first, next }
}

function showHint(message) {
  const hint = state.findsHand ? 'Hold your hand anywhere before the camera, or drop a picture here.' : 'Hold your hand in the frame, or drop a picture there.'
  if ($('hint').textContent !== (message ?? hint)) $('hint').textContent = message ?? hint
}

// Draw the box of the hand, and its joints; a hand is in fractions of the picture's width and height.
function drawHand(hand) {
  const { canvas: { width, height } } = overlay
  overlay.clearRect(0, 0, width, height)
  if (video.videoWidth && width !== video.videoWidth) Object.assign($('overlay'), { width: video.videoWidth, height: video.videoHeight })
  if (!hand) return
  const [left, top, right, bottom] = hand.box.map((value, index) => value * (index % 2 ? overlay.canvas.height : overlay.canvas.width))
  const margin = 0.15 * Math.max(right - left, bottom - top)
  // white on black is visible on every background
  for (const [color, lineWidth] of [['#000', 6], ['#fff', 3]]) {
    Object.assign(overlay, { strokeStyle: color, lineWidth })
    overlay.strokeRect(left - margin, top - margin, right - left + 2 * margin, bottom - top + 2 * margin)
    if (!$('joints').checked) continue
    const points = hand.landmarks.map(([x, y]) => [x * overlay.canvas.width, y * overlay.canvas.height])
    for (const [from, to] of BONES) {
      overlay.beginPath()
      overlay.moveTo(...points[from])
      overlay.lineTo(...points[to])
      overlay.stroke()
    }
  }
}

function showSpeed() {
  const time = performance.now()
  state.answerTimes = [...state.answerTimes.filter((answerTime) => time - answerTime < 1000), time]
  $('speed').textContent = `${state.answerTimes.length} predictions a second`
}

function showPrediction(prediction) {
  const letter = (prediction.probability >= MIN_PROBABILITY && prediction.letter) || '–'
  if ($('letter').textContent !== letter) $('letter').textContent = letter
  const likely = [prediction, ...prediction.next].filter(({ letter }) => letter)
  const rows = likely.map(({ letter, probability }) => {
    const row = document.createElement('li')
    const bar = Object.assign(document.createElement('meter'), { value: probability, ariaLabel: `${letter}` })
    const percentage = Object.assign(document.createElement('span'), { textContent: `${Math.round(100 * probability)} %` })
    row.append(Object.assign(document.createElement('span'), { textContent: letter }), bar, percentage)
    return row
  })
  $('likely').replaceChildren(...rows)
}

// ---- held letters become words

function updateHold({ letter, probability }) {
  const time = performance.now()
  const predicted = probability >= MIN_PROBABILITY && letter !== 'Nothing' ? letter : null
  if (predicted !== state.held) {
    // what is answered for a moment only, as between two signs, is no new sign
    if (predicted !== state.candidate) {
      state.candidate = predicted
      state.candidateSince = time
    }
    if (time - state.candidateSince < HOLD_TIME / 5) return
    state.held = predicted
    state.heldSince = time
    state.counted = false
  }
  state.candidate = state.held
  const fraction = state.held && !state.counted ? Math.min(1, (time - state.heldSince) / HOLD_TIME) : 0
  showHold(fraction)
  if (fraction === 1) {
    state.counted = true
    acceptLetter(state.held)
  }
}

function showHold(fraction) {
  $('hold').ariaValueNow = Math.round(100 * fraction)
  $('hold').firstElementChild.style.width = `${100 * fraction}%`
}

function acceptLetter(letter) {
  if (state.mode === 'teach') return
  if (state.mode === 'practice') practice(letter)
  else if (letter === 'Space') endWord()
  else if (letter === 'Del') deleteLast()
  else if (!SPECIAL.has(letter)) {
    state.letters += letter.toUpperCase()
    updateWords()
  }
}

async function updateWords() {
  $('raw').textContent = state.letters
  $('text').textContent = state.text
  const letters = state.letters
  if (!/^[A-Z0-9]{1,40}$/.test(letters)) {
    $('words').replaceChildren()
    return
  }
  try {
    const { words } = await (await request('v1/words', JSON.stringify({ letters }), 'application/json')).json()
    if (letters !== state.letters) return
    $('words').replaceChildren(...words.map((word) => {
      const button = Object.assign(document.createElement('button'), { type: 'button', textContent: word })
      button.addEventListener('click', () => {
        $('space').focus() // the button of the word disappears
        acceptWord(word)
      })
      return button
    }))
  } catch (error) {
    showMessage(`No words: ${error.message}`)
  }
}

function acceptWord(word) {
  state.text += `${word} `
  state.letters = ''
  updateWords()
}

function endWord() {
  if (state.letters) acceptWord($('words').firstElementChild?.textContent ?? state.letters)
}

function deleteLast() {
  if (state.letters) state.letters = state.letters.slice(0, -1)
  else state.text = state.text.trimEnd().replace(/\S+$/, '')
  updateWords()
}

$('space').addEventListener('click', endWord)
$('delete').addEventListener('click', deleteLast)
$('clear').addEventListener('click', () => {
  state.letters = state.text = ''
  updateWords()
})
const fullText = () => (state.text + state.letters).trim()
$('copy').addEventListener('click', () => navigator.clipboard.writeText(fullText()).catch(() => showMessage('The text could not be copied.')))
$('speak').addEventListener('click', () => {
  if (!('speechSynthesis' in window)) showMessage('This browser does not support speech.')
  else if (fullText()) speechSynthesis.speak(Object.assign(new SpeechSynthesisUtterance(fullText().toLowerCase()), { lang: 'en' }))
})

// ---- practice

function practice(letter) {
  if (state.position >= state.target.length) return
  if (letter === state.target[state.position]) state.position++
  else if (letter !== state.target[state.position - 1]) state.mistakes++ // the previous letter may still be held
  showPractice()
}

function showPractice() {
  const { target, position, mistakes } = state
  const mistakeCount = `${mistakes} ${mistakes === 1 ? 'mistake' : 'mistakes'}`
  $('progress').textContent = `${target.slice(0, position)}${'·'.repeat(target.length - position)}`
  const letter = target[position]
  $('example').hidden = !letter
  if (letter) {
    $('example-name').textContent = letter
    $('example-picture').hidden = !state.pictures.includes(letter)
    $('example-picture').alt = `The sign for ${letter}`
    if (state.pictures.includes(letter)) loadExample(letter)
    $('score').textContent = mistakes ? `${mistakeCount} so far` : ''
  } else if (target) {
    const seconds = (performance.now() - state.startTime) / 1000
    const score = Math.round((100 * target.length) / (target.length + mistakes))
    $('score').textContent = `${target} in ${seconds.toFixed(1)} seconds with ${mistakeCount}: ${score} of 100 points`
  }
}

async function loadExample(letter) {
  try {
    const file = await (await request(`v1/pictures/${letter}`)).blob()
    URL.revokeObjectURL($('example-picture').src)
    $('example-picture').src = URL.createObjectURL(file)
  } catch (error) {
    showMessage(`No picture: ${error.message}`)
  }
}

$('practice-form').addEventListener('submit', (event) => {
  event.preventDefault()
  const word = $('target').value.toUpperCase()
  if (!state.classNames) {
    showMessage('The list of letters has not been received from the server.')
    return
  }
  const unknown = [...word].filter((letter) => !state.classNames.includes(letter))
  if (!word || unknown.length) {
    showMessage(word ? `This network does not know ${[...new Set(unknown)].join(', ')}.` : 'Type a letter or a word to sign.')
    return
  }
  showMessage()
  Object.assign(state, { target: word, position: 0, mistakes: 0, startTime: performance.now(), held: null, counted: false })
  showPractice()
})

// ---- teaching

const BURSTS = 3 // times that a letter is signed anew, so that its pictures differ
const BURST_PICTURES = 5
const PICTURE_INTERVAL = 200 // milliseconds between two pictures of a burst
const COUNTDOWN = 3 // seconds before each burst
const MAX_REFUSED = 25 // pictures without a hand after which the recording ends

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

function updateRecord() {
  $('record').disabled = !$('consent').checked || state.recording
}

async function record() {
  if (state.recording) return
  state.recording = true
  updateRecord()
  try {
    if (!video.srcObject) await toggleCamera()
    if (video.srcObject) await recordLetter()
  } finally {
    state.recording = false
    updateRecord()
    await showTaught()
  }
}

async function recordLetter() {
  const letter = $('teach-letter').value
  const start = new Date().toISOString().replace(/[^0-9]/g, '').slice(0, 14)
  let kept = 0
  let refused = 0
  try {
    for (let burst = 1; burst <= BURSTS; burst++) {
      const task = burst === 1 ? `Sign ${letter}` : `Move your hand, and sign ${letter} again`
      for (let seconds = COUNTDOWN; seconds > 0; seconds--) {
        $('teach-progress').textContent = `${task}: ${seconds}`
        await sleep(1000)
      }
      for (let number = 0; number < BURST_PICTURES;) {
        if (!video.srcObject) throw new Error('the camera was stopped')
        if (!$('consent').checked || state.mode !== 'teach') throw new Error('the recording was stopped')
        drawFrame()
        const blob = await new Promise((resolve) => canvas.toBlob(resolve, 'image/jpeg', 0.92))
        try {
          await request(`${taughtPath({ letter, name: `${start}-${burst}` })}?consent=true`, blob, 'image/jpeg')
          number++
          kept++
          $('teach-progress').textContent = `${letter}: ${kept} of ${BURSTS * BURST_PICTURES} pictures`
        } catch (error) {
          if (!error.message.startsWith('no hand')) throw error
          if (++refused === MAX_REFUSED) throw new Error('no hand is in the picture: take more light, or another place')
          $('teach-progress').textContent = `${letter}: ${kept} of ${BURSTS * BURST_PICTURES} pictures; no hand is in the picture`
        }
        await sleep(PICTURE_INTERVAL)
      }
    }
    $('teach-progress').textContent = `${letter}: all ${kept} pictures are kept.`
    $('teach-letter').selectedIndex = ($('teach-letter').selectedIndex + 1) % $('teach-letter').length
  } catch (error) {
    $('teach-progress').textContent = `${letter}: ${kept} pictures are kept; ${error.message}.`
  }
}

const taughtPath = ({ letter, name }) => `v1/taught/${encodeURIComponent(letter)}/${encodeURIComponent(name)}`

async function showTaught() {
  let pictures
  try {
    ({ pictures } = await (await request('v1/taught')).json())
  } catch (error) {
    showMessage(`No answer: ${error.message}`)
    return
  }
  const names = new Map()
  for (const picture of pictures) names.set(picture.letter, [...(names.get(picture.letter) ?? []), picture])
  const rows = [...names].map(([letter, group]) => {
    const row = document.createElement('li')
    const details = document.createElement('details')
    details.append(Object.assign(document.createElement('summary'), { textContent: `${letter}: ${group.length} ${group.length === 1 ? 'picture' : 'pictures'}` }))
    details.addEventListener('toggle', () => details.open && details.childElementCount === 1 && details.append(...group.map(thumbnail)))
    const button = Object.assign(document.createElement('button'), { type: 'button', textContent: 'Delete', ariaLabel: `Delete all pictures of ${letter}` })
    button.addEventListener('click', () => deleteTaught(group))
    row.append(details, button)
    return row
  })
  $('taught').replaceChildren(...rows)
  $('taught-all').hidden = !pictures.length
}

function thumbnail({ letter, name }) {
  const button = Object.assign(document.createElement('button'), { type: 'button', className: 'thumbnail', ariaLabel: `Delete ${letter}, ${name}`, title: 'Delete this picture' })
  const image = Object.assign(document.createElement('img'), { alt: '' })
  request(taughtPath({ letter, name })).then((response) => response.blob()).then((file) => {
    image.addEventListener('load', () => URL.revokeObjectURL(image.src))
    image.src = URL.createObjectURL(file)
  }).catch((error) => showMessage(`No picture: ${error.message}`))
  button.append(image)
  button.addEventListener('click', () => deleteTaught([{ letter, name }]))
  return button
}

async function deleteTaught(pictures) {
  try {
    for (const picture of pictures) await request(taughtPath(picture), undefined, undefined, 'DELETE')
  } catch (error) {
    showMessage(`Not deleted: ${error.message}`)
  }
  await showTaught()
}

$('consent').addEventListener('change', updateRecord)
$('record').addEventListener('click', record)
$('delete-all').addEventListener('click', async () => {
  try {
    await request('v1/taught', undefined, undefined, 'DELETE')
    $('teach-progress').textContent = 'All pictures are deleted.'
  } catch (error) {
    showMessage(`Not deleted: ${error.message}`)
  }
  await showTaught()
})
$('download').addEventListener('click', async () => {
  try {
    const file = await (await request('v1/taught.zip')).blob()
    const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(file), download: 'my_hand.zip' })
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
  } catch (error) {
    showMessage(`No download: ${error.message}`)
  }
})

function setMode(name) {
  state.mode = name
  for (const mode of ['spell', 'practice', 'teach']) {
    $(mode).hidden = name !== mode
    $(`mode-${mode}`).ariaPressed = name === mode
  }
  if (name === 'teach' && state.teaches) showTaught()
}
for (const mode of ['spell', 'practice', 'teach']) $(`mode-${mode}`).addEventListener('click', () => setMode(mode))

// ---- picture files

async function openFile(file) {
  if (!file) return
  try {
    const image = await createImageBitmap(file)
    const side = Math.min(image.width, image.height)
    if (state.findsHand) drawWhole(image, image.width, image.height)
    else drawSquare(image, (image.width - side) / 2, (image.height - side) / 2, side)
  } catch {
    showMessage(`${file.name} is not a picture that this browser can open.`)
    return
  }
  try {
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, 'image/png'))
    const [prediction] = (await (await request('v1/predict', blob, 'image/png')).json()).predictions
    showPrediction(lacksHand(prediction) ? NO_LETTER : prediction)
    showHint(lacksHand(prediction) ? `${file.name}: ${NO_HAND}` : file.name)
    showMessage()
  } catch (error) {
    showMessage(`No answer: ${error.message}`)
  }
}
$('file').addEventListener('change', (event) => openFile(event.target.files[0]))
const stage = $('stage')
stage.addEventListener('dragover', (event) => { event.preventDefault(); stage.classList.add('over') })
stage.addEventListener('dragleave', () => stage.classList.remove('over'))
stage.addEventListener('drop', (event) => {
  event.preventDefault()
  stage.classList.remove('over')
  openFile(event.dataTransfer.files[0])
})

$('start').addEventListener('click', toggleCamera)
request('v1/model').then((response) => response.json()).then(({ class_names: classNames, pictures, crop, teaches }) => {
  Object.assign(state, { classNames, pictures, teaches, findsHand: crop === 'hand' })
  $('teach-on').hidden = !teaches
  $('teach-off').hidden = teaches
  const letters = classNames.filter((name) => !SPECIAL.has(name))
  $('teach-letter').replaceChildren(...letters.map((name) => Object.assign(document.createElement('option'), { textContent: name })))
  $('frame').hidden = $('left-label').hidden = state.findsHand
  $('joints-label').hidden = !state.findsHand
  setMode(state.mode)
  showHint()
}).catch((error) => showMessage(`No answer: ${error.message}`))
setMode('spell')
showPractice()

// In a page of a site: an explorer starts when it is almost in view, and until then is its picture.

const begin = (place) => {
  const state = document.querySelector(`script[data-explorer="${place.id}"]`);
  try {
    player.render({ model: offlineModel(JSON.parse(state.textContent)), el: place });
    state.remove();
  } catch (error) { console.error(`${place.id}: ${error.stack}`); } // its picture stays
};
const near = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) {
    near.unobserve(target);
    begin(target);
  }
}, { rootMargin: "600px" });
for (const place of document.querySelectorAll(".explorer")) near.observe(place);

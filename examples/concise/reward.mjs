/** One point for the question's key word, one for an answer that comes to its end; half a point less for each sentence after the second. */
export default function concise(samples) {
  return samples.map(({ response, responseWithSpecialTokens, row }) => {
    const sentences = response.split(/[.!?](?:\s+|$)/).filter((text) => /\w/.test(text)).length;
    const onTopic = response.toLowerCase().includes(row.keyword.toLowerCase());
    const finished = responseWithSpecialTokens.endsWith("<|im_end|>") && /[.!?]["')]*\s*$/.test(response);
    return Number(onTopic) + Number(finished) - 0.5 * Math.max(0, sentences - 2);
  });
}

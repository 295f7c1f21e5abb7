interface Node<V> {
  readonly key: string;
  at: number;
  value: V;
}

/**
 * Keys ordered by the time at which they are due, each at most once: setting a key again keeps the earlier time. A
 * binary heap with the place of each key beside it, so that moving a key leaves nothing behind.
 */
export class DelayHeap<V> {
  private readonly nodes: Node<V>[] = [];
  private readonly places = new Map<string, number>();

  get size(): number {
    return this.nodes.length;
  }

  /** Time of the first key; undefined when empty. */
  get firstAt(): number | undefined {
    return this.nodes[0]?.at;
  }

  has(key: string): boolean {
    return this.places.has(key);
  }

  /** @param merge - makes one value of two, when the key is there already. */
  set(key: string, at: number, value: V, merge: (old: V, added: V) => V): void {
    const place = this.places.get(key);
    const node = place === undefined ? undefined : this.nodes[place];
    if (node === undefined || place === undefined) {
      this.nodes.push({ key, at, value });
      this.places.set(key, this.nodes.length - 1);
      this.rise(this.nodes.length - 1);
      return;
    }
    node.value = merge(node.value, value);
    if (at >= node.at) return;
    node.at = at;
    this.rise(place);
  }

  /** Takes the first key when it is due. */
  popDue(now: number): { readonly key: string; readonly value: V } | undefined {
    const first = this.nodes[0];
    if (first === undefined || first.at > now) return undefined;
    const last = this.nodes.pop();
    this.places.delete(first.key);
    if (last !== undefined && last !== first) {
      this.put(last, 0);
      this.sink(0);
    }
    return first;
  }

  private rise(place: number): void {
    for (let child = place; child > 0;) {
      const parent = (child - 1) >> 1;
      if (!this.isBefore(child, parent)) return;
      this.swap(child, parent);
      child = parent;
    }
  }

  private sink(place: number): void {
    for (let parent = place; ;) {
      const left = 2 * parent + 1;
      const least = left + 1 < this.nodes.length && this.isBefore(left + 1, left) ? left + 1 : left;
      if (least >= this.nodes.length || !this.isBefore(least, parent)) return;
      this.swap(least, parent);
      parent = least;
    }
  }

  private isBefore(a: number, b: number): boolean {
    return this.at(a).at < this.at(b).at;
  }

  private swap(a: number, b: number): void {
    const [nodeA, nodeB] = [this.at(a), this.at(b)];
    this.put(nodeB, a);
    this.put(nodeA, b);
  }

  private put(node: Node<V>, place: number): void {
    this.nodes[place] = node;
    this.places.set(node.key, place);
  }

  private at(place: number): Node<V> {
    const node = this.nodes[place];
    if (node === undefined) throw new RangeError(`No place ${place} in a heap of ${this.nodes.length}`);
    return node;
  }
}
